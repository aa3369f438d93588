//! The tick threads: started, told what the seats say, and watched.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use media::TICK;
use tokio::sync::mpsc;

use super::tick::{Counters, News, Order, Ticker};

/// Orders that wait for one thread's next tick: a join is two of them, and a tick is 20 ms.
const ORDERS_MAX: usize = 4_096;

/// News that waits for the operator.
const NEWS_MAX: usize = 8_192;

/// The threads, by their number.
#[derive(Debug)]
pub(crate) struct MediaThreads {
    threads: Vec<Thread>,
}

#[derive(Debug)]
struct Thread {
    orders: SyncSender<Order>,
    /// Found the queue full.
    waiting: VecDeque<Order>,
    counters: Arc<Counters>,
    handle: JoinHandle<()>,
    told_dead: bool,
}

impl MediaThreads {
    /// Starts the threads, their phases spread over a tick.
    pub(crate) fn start(count: usize) -> io::Result<(Self, mpsc::Receiver<News>)> {
        let count = count.clamp(1, THREADS_MAX);
        let (news, receiver) = mpsc::channel(NEWS_MAX);
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| sync_channel(ORDERS_MAX)).unzip();
        let mut threads = Vec::with_capacity(count);
        for (index, orders) in receivers.into_iter().enumerate() {
            let counters = Arc::new(Counters::default());
            let ticker = Ticker::new(orders, news.clone(), senders.clone(), Arc::clone(&counters));
            let phase = TICK * index as u32 / count as u32;
            let handle = std::thread::Builder::new().name(format!("media-{index}")).spawn(move || ticker.run(phase))?;
            let orders = senders[index].clone();
            threads.push(Thread { orders, waiting: VecDeque::new(), counters, handle, told_dead: false });
        }
        Ok((Self { threads }, receiver))
    }

    pub(crate) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Offers what found a queue full, and finds threads that have died since it was last asked.
    pub(crate) fn look_after(&mut self) -> Vec<usize> {
        let mut died = Vec::new();
        for index in 0..self.threads.len() {
            self.flush(index);
            let thread = &mut self.threads[index];
            if thread.handle.is_finished() {
                thread.waiting.clear();
                if !std::mem::replace(&mut thread.told_dead, true) {
                    died.push(index);
                }
            }
        }
        died
    }

    /// Whether orders wait for room in a queue.
    pub(crate) fn is_behind(&self) -> bool {
        self.threads.iter().any(|thread| !thread.waiting.is_empty())
    }

    /// One of the counters, over all threads since the start.
    pub(crate) fn counted(&self, counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.threads.iter().map(|thread| counter(&thread.counters).load(Ordering::Relaxed)).sum()
    }

    /// Stops all threads; each ends within a tick.
    pub(crate) fn stop(&mut self) {
        for thread in 0..self.threads.len() {
            self.send(thread, Order::Stop);
        }
    }

    /// Never waits, and loses nothing unless the thread has died.
    pub(crate) fn send(&mut self, thread: usize, order: Order) {
        self.flush(thread);
        let thread = &mut self.threads[thread];
        if !thread.waiting.is_empty() {
            thread.waiting.push_back(order);
        } else if let Err(TrySendError::Full(order)) = thread.orders.try_send(order) {
            thread.waiting.push_back(order);
        }
    }

    fn flush(&mut self, thread: usize) {
        let thread = &mut self.threads[thread];
        while let Some(order) = thread.waiting.pop_front() {
            match thread.orders.try_send(order) {
                Err(TrySendError::Full(order)) => {
                    thread.waiting.push_front(order);
                    return;
                }
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }
}

/// More threads than any machine has cores for media.
const THREADS_MAX: usize = 64;

impl Drop for MediaThreads {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use control::ConferenceId;
    use media::{Codec, Format, Port, PortConfig, PortId};

    use super::super::rtp::{Peer, PortRange};
    use super::super::seats::{Seated, Seats};
    use super::super::tick::MediaLeg;
    use super::*;

    const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn conference(number: u128) -> ConferenceId {
        ConferenceId(format!("{number:032x}").parse::<ConferenceId>().expect("a GUID").0)
    }

    fn leg(id: u64, ports: &mut PortRange) -> Box<MediaLeg> {
        let format = Format { payload_type: 0, codec: Codec::Pcmu };
        Box::new(MediaLeg {
            id: PortId(id),
            sockets: ports.bind().expect("a free pair"),
            rtp_peer: Peer::new(None, HERE),
            rtcp_peer: Peer::new(None, HERE),
            muxed: false,
            port: Some(Box::new(Port::new(PortConfig::new(format, id)).expect("a port"))),
            room: None,
        })
    }

    fn pass_on(seats: &mut Seats, threads: &mut MediaThreads) {
        while let Some((thread, order)) = seats.poll_order() {
            threads.send(thread, order);
        }
    }

    fn next(news: &mut mpsc::Receiver<News>) -> News {
        news.blocking_recv().expect("the threads run")
    }

    #[test]
    fn a_leg_on_its_way_is_told_everything_when_it_has_arrived() {
        let mut ports = PortRange::new(HERE, &(49_000..=49_099), 0).expect("a range");
        let (mut threads, mut news) = MediaThreads::start(2).expect("threads");
        let mut seats = Seats::new(threads.count(), 10);
        seats.open(conference(1), leg(1, &mut ports));
        assert_eq!(seats.attach(PortId(1), conference(1), true, true), Seated::First);
        seats.open(conference(2), leg(2, &mut ports));
        assert_eq!(seats.attach(PortId(2), conference(2), true, true), Seated::First);
        assert_ne!(seats.thread_of(conference(1)), seats.thread_of(conference(2)));

        assert_eq!(seats.attach(PortId(1), conference(2), true, true), Seated::From(conference(1)));
        assert_eq!(seats.room_count(), 1, "the room it left is empty");
        assert_eq!(seats.attach(PortId(1), conference(2), true, true), Seated::Again);
        seats.close(PortId(1));
        let mut closed = false;
        while !closed {
            pass_on(&mut seats, &mut threads);
            match next(&mut news) {
                News::Arrived(leg) => seats.arrived(leg),
                News::Closed(leg) => {
                    seats.closed(leg.id);
                    closed = true;
                }
                News::RoomClosed(room) => assert!(room.is_empty()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((seats.leg_count(), seats.seat_of(PortId(1))), (1, None));
    }

    #[test]
    fn a_thread_that_ends_is_noticed_with_its_legs() {
        let mut ports = PortRange::new(HERE, &(49_100..=49_199), 0).expect("a range");
        let (mut threads, _news) = MediaThreads::start(1).expect("threads");
        let mut seats = Seats::new(threads.count(), 10);
        seats.open(conference(1), leg(1, &mut ports));
        seats.attach(PortId(1), conference(1), true, true);
        pass_on(&mut seats, &mut threads);
        assert!(threads.look_after().is_empty());
        assert_eq!(seats.take_lost(), []);
        threads.stop();
        let died = loop {
            let died = threads.look_after();
            if !died.is_empty() {
                break died;
            }
            std::thread::yield_now();
        };
        for thread in died {
            seats.died(thread);
        }
        assert_eq!((seats.take_lost().as_slice(), seats.room_count()), (&[PortId(1)][..], 0));
        // A leg that is opened with no thread left is lost too, and not forgotten.
        seats.open(conference(1), leg(2, &mut ports));
        assert_eq!(seats.take_lost(), [PortId(2)]);
    }
}
