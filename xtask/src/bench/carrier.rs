//! The far end of a trunk, as small as it can be: it answers every INVITE at once with one codec, and lets the caller
//! into a crowd. Within a dialog it agrees to everything.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use media::Codec;
use sip::message::{HeaderName, Message, Method, Request, Response, parse_datagram};

use super::crowd::{End, Entrance, Joining, socket};

#[derive(Debug)]
pub(super) struct Carrier {
    pub(super) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How often the thread looks whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Carrier {
    pub(super) fn start(codec: Codec, entrance: Entrance) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let desk = Desk { socket, address, codec, entrance, stop: Arc::clone(&stop), answered: HashMap::new() };
        let thread = std::thread::Builder::new().name("carrier".to_owned()).spawn(move || desk.run())?;
        Ok(Self { address, stop, thread: Some(thread) })
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Desk {
    socket: UdpSocket,
    address: SocketAddr,
    codec: Codec,
    entrance: Entrance,
    stop: Arc<AtomicBool>,
    /// The descriptions by Call-ID: a repeated INVITE, and one within the dialog, gets the same again.
    answered: HashMap<String, Vec<u8>>,
}

impl Desk {
    fn run(mut self) {
        let mut buffer = vec![0; 65_535];
        while !self.stop.load(Ordering::Relaxed) {
            let Ok((length, source)) = self.socket.recv_from(&mut buffer) else { continue };
            let Ok(Message::Request(request)) = parse_datagram(&buffer[..length]) else { continue };
            match self.answer(&request) {
                Ok(Some(answer)) => drop(self.socket.send_to(&answer, source)),
                Ok(None) => {}
                Err(error) => eprintln!("a request cannot be answered: {error:#}"),
            }
        }
    }

    fn answer(&mut self, request: &Request) -> Result<Option<Vec<u8>>> {
        let call = request.headers.get(HeaderName::CallId).context("no Call-ID")?;
        let call = String::from_utf8_lossy(call).into_owned();
        let plain = |status| Response::to_request(request, status, "").with_to_tag("carrier").to_bytes();
        match request.method {
            Method::Ack => Ok(None),
            Method::Invite => {
                let offer = Offer::read(&String::from_utf8_lossy(&request.body), self.codec)?;
                let sdp = match self.answered.get(&call).cloned() {
                    Some(sdp) => {
                        self.entrance.turn_to(End(call), offer.peer);
                        sdp
                    }
                    None => self.let_in(call, &offer)?,
                };
                let answer = Response::to_request(request, 200, "")
                    .with_to_tag("carrier")
                    .with(HeaderName::Contact, format!("<sip:carrier@{}>", self.address))
                    .with_body("application/sdp", sdp)
                    .to_bytes();
                Ok(Some(answer))
            }
            Method::Bye => {
                self.answered.remove(&call);
                self.entrance.leave(End(call));
                Ok(Some(plain(200)))
            }
            _ => Ok(Some(plain(200))),
        }
    }

    fn let_in(&mut self, call: String, offer: &Offer) -> Result<Vec<u8>> {
        let socket = socket()?;
        let sdp = self.sdp(socket.local_addr()?.port(), offer.payload_type).into_bytes();
        let (peer, payload_type) = (offer.peer, offer.payload_type);
        self.entrance.join(Joining { end: End(call.clone()), socket, peer, payload_type });
        self.answered.insert(call, sdp.clone());
        Ok(sdp)
    }

    fn sdp(&self, port: u16, payload_type: u8) -> String {
        let format = match self.codec {
            Codec::Opus => format!("a=rtpmap:{payload_type} opus/48000/2\r\n"),
            codec => format!("a=rtpmap:{payload_type} {}/8000\r\n", codec.name()),
        };
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP {payload_type}\r\n{format}a=sendrecv\r\n"
        )
    }
}

/// What an offer says about the one codec.
struct Offer {
    peer: SocketAddr,
    payload_type: u8,
}

impl Offer {
    fn read(sdp: &str, codec: Codec) -> Result<Self> {
        let line = |start: &str| sdp.lines().find_map(|line| line.strip_prefix(start));
        let address: IpAddr = line("c=IN IP4 ").context("no address")?.trim().parse()?;
        let port = line("m=audio ").and_then(|rest| rest.split(' ').next()).context("no audio")?.parse()?;
        let mapped =
            sdp.lines().filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' ')).find(|(_, name)| {
                let name = name.split('/').next().unwrap_or_default();
                name.eq_ignore_ascii_case(codec.name())
            });
        let payload_type = match mapped {
            Some((number, _)) => number.parse()?,
            None => codec.static_payload_type().context("the codec is not offered")?,
        };
        Ok(Self { peer: SocketAddr::new(address, port), payload_type })
    }
}
