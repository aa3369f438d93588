//! A phone for trying things by hand. Events are printed as JSON lines; it ends after so many seconds, or with Ctrl-C.
//!
//! ```text
//! softphone 'sip:alice:secret@127.0.0.1:5060' '{"say": "tone:440"}' 60        registers and answers
//! softphone - '{"say": "speech"}' 60 sip:bob@127.0.0.1:5070                   calls without registering
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use phone::{Account, BankConfig, Line, Phone, PhoneConfig, Place, Script, Transport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let account = arguments.next().ok_or("which account? sip:user:password@host[:port][;transport=tcp], or -")?;
    let script: Script = serde_json::from_str(&arguments.next().unwrap_or_else(|| "{}".to_owned()))?;
    let seconds: u64 = arguments.next().map_or(Ok(30), |text| text.parse())?;
    let callee = arguments.next();

    let bank = BankConfig {
        local: std::env::var("PHONE_BIND")
            .ok()
            .map_or(Ok(SocketAddr::from(([127, 0, 0, 1], 0))), |text| text.parse())?,
        tell_levels: true,
        hear: vec![440.0, 1000.0],
        record: std::env::var_os("PHONE_RECORD").map(Into::into),
        trace: std::env::var_os("PHONE_TRACE").is_some(),
        ..BankConfig::default()
    };
    let place = if account == "-" { Place::Direct } else { Place::Registered(read(&account)?) };
    let line = Line { name: "phone".to_owned(), place, script };
    let phone = Phone::start(PhoneConfig { bank, line }).await?;
    let mut events = phone.subscribe();
    eprintln!("listening on {}", phone.bank().local_addr());
    if let Some(callee) = callee {
        phone.dial(&callee).await?;
    }
    let end = tokio::time::sleep(Duration::from_secs(seconds));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = tokio::signal::ctrl_c() => break,
            event = events.next() => match event {
                Some(event) => println!("{}", serde_json::to_string(&*event)?),
                None => break,
            },
        }
    }
    phone.bank().shut_down(Duration::from_secs(2)).await;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::ZERO, events.next()).await {
        println!("{}", serde_json::to_string(&*event)?);
    }
    Ok(())
}

fn read(account: &str) -> Result<Account, Box<dyn Error>> {
    let uri: sip::message::Uri = account.parse()?;
    let host = uri.host.to_string();
    Ok(Account {
        server: uri.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")),
        transport: if uri.transport_param().as_deref() == Some("tcp") { Transport::Tcp } else { Transport::Udp },
        domain: host,
        username: uri.user_text().ok_or("the account has no user name")?,
        password: uri.password.unwrap_or_default(),
        display: None,
        expires: Duration::from_mins(5),
    })
}
