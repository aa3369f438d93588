//! `convoke token`: an access token, got as any client gets it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use super::{Ended, Sources};
use crate::{certs, hook};

/// Prints an access token of an application
///
/// It is asked for at the server's token endpoint with the client secret, so it shows that clients can.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  \
    TOKEN=$(convoke token --tenant contoso.example --client-id 0f9a1b6e-2c1d-4c54-9d7e-5b1f9f1c0a01 --secret only-for-tests)\n  \
    curl --cacert convoke-data/ca.pem -H \"Authorization: Bearer $TOKEN\" https://localhost:8443/v1.0/communications/calls")]
pub(super) struct Token {
    /// The server
    #[arg(long, value_name = "URL", default_value = "https://localhost:8443")]
    server: String,
    /// The tenant, by id or domain
    #[arg(long)]
    tenant: String,
    /// The application
    #[arg(long, value_name = "GUID")]
    client_id: String,
    /// Its secret
    #[arg(long, env = "CONVOKE_CLIENT_SECRET", hide_env_values = true)]
    secret: String,
    #[arg(long, default_value = "https://graph.microsoft.com/.default")]
    scope: String,
    /// A certificate authority to trust [default: DIR/ca.pem]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    sources: Sources,
}

impl Token {
    pub(super) async fn run(self) -> Ended {
        let own = self.sources.load(Vec::new())?.config.data.join("ca.pem");
        let ca = self.ca.or_else(|| own.exists().then_some(own));
        let client = hook::http_client(certs::roots(None, ca.as_deref())?)?;
        let url = format!("{}/{}/oauth2/v2.0/token", self.server.trim_end_matches('/'), self.tenant);
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", &self.secret),
            ("scope", &self.scope),
        ];
        let body: String =
            form.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&");
        let answer = client
            .post(&url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
            .send()
            .await
            .with_context(|| format!("no answer from {url}"))?;
        let status = answer.status();
        let answer: Value = answer.json().await.with_context(|| format!("{url} answered {status} without JSON"))?;
        let Some(token) = answer.get("access_token").and_then(Value::as_str) else {
            let why = answer.get("error_description").and_then(Value::as_str).unwrap_or("no reason given");
            anyhow::bail!("no token ({status}): {why}")
        };
        println!("{token}");
        Ok(ExitCode::SUCCESS)
    }
}

/// Everything but letters and digits percent-encoded: right in any form or URL.
pub(super) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
