//! The registrar: phones tell where they are.

use std::collections::BTreeMap;

use super::vocabulary::{AgentConfig, Binding, Flow, UnboundBecause};
use super::{Agent, Report, servers::ServerKey};

#[derive(Debug)]
pub(super) struct Registrar {
    bindings: BTreeMap<String, Vec<Binding>>,
}

impl Registrar {
    pub(super) fn new(_config: &AgentConfig) -> Self {
        Self { bindings: BTreeMap::new() }
    }

    pub(super) fn uses(&self, flow: Flow) -> bool {
        self.bindings.values().flatten().any(|binding| binding.flow == flow)
    }
}

impl Agent {
    /// The contacts of an address of record, as they are registered.
    pub fn bindings(&self, aor: &str) -> Vec<Binding> {
        self.registrar.bindings.get(aor).cloned().unwrap_or_default()
    }

    pub(super) fn receive_register(&mut self, key: ServerKey) {
        self.reply(key, 405);
    }

    pub(super) fn restore_binding(&mut self, binding: Binding) {
        self.registrar.bindings.entry(binding.aor.clone()).or_default().push(binding);
    }

    pub(super) fn remove_bindings(&mut self, aor: &str) {
        for binding in self.registrar.bindings.remove(aor).unwrap_or_default() {
            let Binding { aor, contact, .. } = binding;
            self.report(Report::Unbound { aor, contact, because: UnboundBecause::Removed });
        }
    }

    pub(super) fn registrar_flow_closed(&mut self, flow: Flow) {
        for bindings in self.registrar.bindings.values_mut() {
            bindings.retain(|binding| binding.flow != flow);
        }
    }
}
