//! A phone, or a trunk, that sends every call elsewhere.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use control::Timestamp;
use switch::Binding;

use crate::harness::DOMAIN;

pub(crate) struct Redirecting {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Redirecting {
    /// Answers each INVITE with 302 and this Contact.
    pub(crate) fn start(contact: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, contact) = (Arc::clone(&stop), contact.to_owned());
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, source)) = socket.recv_from(&mut buffer) else { continue };
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if text.starts_with("INVITE ") {
                    socket.send_to(redirection(&text, &contact).as_bytes(), source).unwrap();
                }
            }
        });
        Self { address, stop, thread: Some(thread) }
    }

    /// As if it had registered before the switch started.
    pub(crate) fn binding(&self, user: &str) -> Binding {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Binding {
            aor: format!("{user}@{DOMAIN}"),
            aor_uri: format!("sip:{user}@{DOMAIN}"),
            contact: format!("sip:{user}@{}", self.address),
            path: Vec::new(),
            source: self.address,
            transport: "udp".to_owned(),
            call_id: user.to_owned(),
            cseq: 1,
            q_thousandths: 1000,
            user_agent: None,
            instance: None,
            expires_at: Timestamp(now.as_millis() as i64 + 600_000),
        }
    }
}

impl Drop for Redirecting {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn redirection(invite: &str, contact: &str) -> String {
    let copied = ["Via:", "From:", "Call-ID:", "CSeq:"];
    let lines = invite.lines().take_while(|line| !line.is_empty());
    let head: String = lines
        .filter_map(|line| {
            if line.starts_with("To:") {
                return Some(format!("{line};tag=away\r\n"));
            }
            copied.iter().any(|name| line.starts_with(name)).then(|| format!("{line}\r\n"))
        })
        .collect();
    format!("SIP/2.0 302 Moved Temporarily\r\n{head}Contact: {contact}\r\nContent-Length: 0\r\n\r\n")
}
