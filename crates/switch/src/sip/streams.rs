//! One TCP connection: a task that reads, a task that writes, a bounded queue each.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use sip::agent::Flow;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::transports::Happened;

/// The operator's end of a connection. Dropping it closes the connection once what was given is written.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) peer: SocketAddr,
    writes: mpsc::Sender<Vec<u8>>,
}

/// Messages that wait to be written; a peer that does not read them is cut off.
const WRITES_MAX: usize = 256;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

impl Stream {
    /// Puts a connection to work. Nothing is read before [`Reader::begin`]: the connection must be known by then.
    pub(crate) fn new(flow: Flow, stream: TcpStream, happened: mpsc::Sender<Happened>) -> io::Result<(Self, Reader)> {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (peer, local) = (canonical(stream.peer_addr()?), canonical(stream.local_addr()?));
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let (writes, queue) = mpsc::channel(WRITES_MAX);
        let over = CancellationToken::new();
        tokio::spawn(write_all(write, queue, over.clone()));
        let reader = Reader { flow, peer, local, read, happened, over };
        Ok((Self { peer, writes }, reader))
    }

    /// Gives bytes to be written. False: the connection does not keep up, or is gone.
    pub(crate) fn send(&self, bytes: Vec<u8>) -> bool {
        self.writes.try_send(bytes).is_ok()
    }
}

/// The reading half, not at work yet.
#[derive(Debug)]
pub(crate) struct Reader {
    flow: Flow,
    peer: SocketAddr,
    pub(crate) local: SocketAddr,
    read: OwnedReadHalf,
    happened: mpsc::Sender<Happened>,
    over: CancellationToken,
}

impl Reader {
    pub(crate) fn begin(self) {
        tokio::spawn(self.read_all());
    }

    async fn read_all(self) {
        // A peer that has said all still hears our answers: the connection ends when the operator lets go of it.
        loop {
            tokio::select! {
                readable = self.read.readable() => if readable.is_err() { break },
                () = self.over.cancelled() => break,
            }
            // Taken when there is something to read: thousands of idle connections hold no buffers.
            let mut buffer = BytesMut::with_capacity(READ_BYTES);
            match self.read.try_read_buf(&mut buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(0) | Err(_) => break,
            }
            let bytes = buffer.freeze();
            let told = Happened::Stream { flow: self.flow, source: self.peer, local: self.local, bytes };
            if self.happened.send(told).await.is_err() {
                return;
            }
        }
        let _ = self.happened.send(Happened::StreamClosed { flow: self.flow }).await;
    }
}

async fn write_all(mut write: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>, over: CancellationToken) {
    let _ending = over.clone().drop_guard();
    loop {
        let bytes = tokio::select! {
            bytes = queue.recv() => bytes,
            () = over.cancelled() => None,
        };
        let Some(bytes) = bytes else { break };
        if write.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = write.shutdown().await;
}
