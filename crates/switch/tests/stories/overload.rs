//! A store that does not keep up: registrations are refused before they are promised, and calls end all the same.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use control::Cause;
use sip::digest::DigestClient;
use sip::message::{HeaderName, Message, Request, Response, parse_datagram};

use crate::handset::{Answer, Script};
use crate::harness::{PASSWORD, World, conference};
use crate::registered;

/// A phone that registers other contacts each time, as fast as it is answered.
struct Restless {
    socket: UdpSocket,
    account: DigestClient,
    count: u32,
}

impl Restless {
    fn new(world: &World, username: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(world.sip()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket, account: DigestClient::new(username, PASSWORD), count: 0 }
    }

    fn request(&mut self) -> Request {
        self.count += 1;
        let count = self.count;
        let address = self.socket.local_addr().unwrap();
        let contacts: Vec<String> = (0..10).map(|n| format!("<sip:{count}.{n}@{address}>")).collect();
        let text = format!(
            "REGISTER sip:contoso.example SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch=z9hG4bK{count};rport\r\n\
             From: <sip:busy@contoso.example>;tag=1\r\nTo: <sip:busy@contoso.example>\r\nCall-ID: restless\r\n\
             CSeq: {count} REGISTER\r\nMax-Forwards: 70\r\nContact: {}\r\nContent-Length: 0\r\n\r\n",
            contacts.join(", ")
        );
        match parse_datagram(text.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&self, request: &Request) -> Response {
        self.socket.send(&request.to_bytes()).unwrap();
        let mut buffer = vec![0; 65_535];
        let length = self.socket.recv(&mut buffer).expect("the server lives");
        match parse_datagram(&buffer[..length]) {
            Ok(Message::Response(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    fn register(&mut self) -> Response {
        let mut request = self.request();
        self.account.apply(&mut request, "c");
        let response = self.ask(&request);
        if response.status != 401 {
            return response;
        }
        let mut again = self.request();
        self.account.answer(&response, &mut again, "c").unwrap();
        self.ask(&again)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_are_refused_while_nobody_writes_them_down() {
    let mut world = World::start(&["desk", "busy"], Vec::new());
    let mut phone = registered(&world, "desk", Script::new(Answer::PickUp)).await;
    let (leg, _) = world.call(conference(1), "desk").await;
    phone.confirmed().await;

    // Nobody takes the reports.
    let mut restless = Restless::new(&world, "busy");
    let asking = tokio::task::spawn_blocking(move || {
        for registration in 0..2_000 {
            let response = restless.register();
            if response.status != 200 {
                return (restless, registration, response);
            }
        }
        panic!("never refused");
    });
    let (mut restless, taken, refused) = asking.await.unwrap();
    assert_eq!(refused.status, 503, "after {taken}");
    assert!(refused.headers.get_str(HeaderName::RetryAfter).is_some());

    // What goes on ends.
    phone.hang_up();
    assert_eq!(world.expect_hung_up(leg).await, Cause::PeerHungUp { phone: false });

    // The store catches up: nothing that was promised is missing, and new registrations are taken.
    let until = Instant::now() + Duration::from_secs(20);
    let mut bound = 0;
    loop {
        while let Ok(report) = world.reports.try_recv() {
            bound += usize::from(matches!(report, switch::Report::Bound(binding) if binding.aor.starts_with("busy@")));
        }
        if bound >= taken * 10 && restless.register().status == 200 {
            break;
        }
        assert!(Instant::now() < until, "{bound} of {}", taken * 10);
        tokio::task::yield_now().await;
    }
}
