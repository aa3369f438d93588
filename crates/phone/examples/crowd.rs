//! So many PCMU calls between two banks of one process, to see what their sound costs.
//!
//! ```text
//! crowd 500 10        500 calls for 10 s: 1,000 ends, half of them on each of two threads
//! ```

use std::error::Error;
use std::time::Duration;

use phone::{BankConfig, CodecName, Happening, Line, PhoneBank, Place, Script};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let calls: usize = arguments.next().map_or(Ok(500), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let script = Script { codecs: vec![CodecName::Pcmu], ..Script::default() };
    let line = |name: &str| Line { name: name.to_owned(), place: Place::Direct, script: script.clone() };
    let callers = PhoneBank::start(BankConfig::default()).await?;
    callers.set(vec![line("caller")]).await;
    let callees = PhoneBank::start(BankConfig::default()).await?;
    callees.set(vec![line("callee")]).await;

    let mut events = callers.subscribe();
    let to = format!("sip:callee@{}", callees.local_addr());
    for _ in 0..calls {
        callers.dial("caller", &to).await?;
    }
    while callers.counters().answered < calls as u64 {
        events.next().await;
    }
    let before = sound_ticks()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = sound_ticks()? - before;
    // The kernel counts processor time in hundredths of a second.
    println!("{calls} calls: both threads for sound used {:.1} % of a core", used as f64 / seconds as f64);
    callers.shut_down(Duration::from_secs(5)).await;
    let (mut received, mut lost, mut late, mut ended) = (0, 0, 0, 0);
    while ended < calls {
        let Some(event) = events.next().await else { break };
        if let Happening::Ended { statistics: Some(figures), .. } = &event.what {
            (received, lost, late) = (received + figures.packets_in, lost + figures.lost, late + figures.late);
            ended += 1;
        }
    }
    println!("callers received {received} packets, lost {lost}, late {late}; {:?}", callers.counters());
    callees.shut_down(Duration::from_secs(5)).await;
    Ok(())
}

/// The processor time of this process's threads for sound.
fn sound_ticks() -> Result<u64, Box<dyn Error>> {
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        if std::fs::read_to_string(path.join("comm"))?.trim() == "phone-sound" {
            let stat = std::fs::read_to_string(path.join("stat"))?;
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            for at in [11, 12] {
                ticks += fields.get(at).map_or(Ok(0), |field| field.parse::<u64>())?;
            }
        }
    }
    Ok(ticks)
}
