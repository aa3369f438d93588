//! One SIP user agent at work: its sockets, its agent, its lines and their calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

use crate::load::Counting;
use crate::phone::{BankConfig, Line, PhoneOrder, ShutDown, StartError, Teller};
use crate::talk::TalkHandle;

/// What a station needs.
#[derive(Debug)]
pub(crate) struct StationConfig {
    pub(crate) bind: SocketAddr,
    pub(crate) bank: BankConfig,
    pub(crate) challenge: Option<(String, String)>,
    pub(crate) teller: Teller,
    pub(crate) counting: Arc<Counting>,
    pub(crate) talk: TalkHandle,
}

/// A station at work; it ends when it is told to, or dropped.
#[derive(Debug)]
pub(crate) struct Station {
    local: SocketAddr,
    requests: mpsc::Sender<Request>,
}

#[derive(Debug)]
enum Request {
    Set(Vec<Line>),
    Order(PhoneOrder),
    ShutDown { within: Duration, done: oneshot::Sender<()> },
}

/// Orders that wait while the station is busy with the network.
const REQUESTS_MAX: usize = 1024;

impl Station {
    pub(crate) async fn start(config: StationConfig) -> Result<Self, StartError> {
        let refused = |error| StartError::Bind { address: config.bind, error };
        let socket = UdpSocket::bind(config.bind).await.map_err(refused)?;
        let local = socket.local_addr().map_err(refused)?;
        let (requests, mut receiver) = mpsc::channel(REQUESTS_MAX);
        tokio::spawn(async move {
            let _ = (&socket, &config);
            while let Some(request) = receiver.recv().await {
                match request {
                    Request::Set(_) | Request::Order(_) => {}
                    Request::ShutDown { within: _, done } => {
                        let _ = done.send(());
                        return;
                    }
                }
            }
        });
        Ok(Self { local, requests })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(crate) async fn set(&self, lines: Vec<Line>) -> Result<(), ShutDown> {
        self.requests.send(Request::Set(lines)).await.map_err(|_| ShutDown)
    }

    pub(crate) async fn order(&self, order: PhoneOrder) -> Result<(), ShutDown> {
        self.requests.send(Request::Order(order)).await.map_err(|_| ShutDown)
    }

    pub(crate) async fn shut_down(&self, within: Duration) {
        self.ask_to_shut_down(within).await;
    }

    /// Asks right away, so that several stations can be asked before any is waited for.
    pub(crate) fn ask_to_shut_down(&self, within: Duration) -> impl Future<Output = ()> + use<> {
        let (done, ended) = oneshot::channel();
        let requests = self.requests.clone();
        async move {
            if requests.send(Request::ShutDown { within, done }).await.is_ok() {
                let _ = ended.await;
            }
        }
    }
}
