//! What goes into the agent and what comes out of it: inputs, orders, outputs and reports.
//!
//! Everything here is plain data. The shell that owns the sockets turns datagrams, stream bytes and look-ups into
//! [`Input`]s and carries out [`Output`]s; the user of the agent (the switch, or a softphone) gives [`Order`]s and
//! reads [`Report`]s.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use super::guarding::GuessLimits;
pub use crate::digest::Algorithm;
use crate::locate::{Answer, Question};
use crate::message::Uri;

/// One way in and out of this process: a listening UDP socket, a TCP listener or one TCP connection.
///
/// The shell numbers them and never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow(pub u64);

/// Names a connection that the agent asked for, until it is established or has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectId(pub u64);

/// Names a look-up that the agent asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// One leg: our end of one call with one peer, or with the several devices that ring for it. For the switch it is
/// the leg's id; for an incoming call the agent makes one up.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegKey(pub [u8; 16]);

impl fmt::Debug for LegKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leg({self})")
    }
}

impl fmt::Display for LegKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How messages travel. TLS and WebSocket join here: both are streams with another name in Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// A reliable transport delivers or fails; nothing is sent twice over it (RFC 3261 §17).
    pub fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp => true,
        }
    }

    /// The name in a Via header: `UDP`, `TCP`.
    pub fn via_name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// The value of a URI's `transport` parameter: `udp`, `tcp`.
    pub fn uri_name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// Reads either spelling, in any case; `None` for a transport we do not have.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp].into_iter().find(|transport| transport.via_name().eq_ignore_ascii_case(name))
    }
}

/// What becomes of an INVITE that reaches us outside of any dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncomingPolicy {
    /// Answer 403: nobody can call here.
    Refuse,
    /// Report it and wait for [`Order::Accept`], [`Order::Ring`] or [`Order::Refuse`].
    Deliver,
}

/// The registrar's settings; without them REGISTER is answered 405.
#[derive(Clone, Debug)]
pub struct RegistrarConfig {
    /// The one digest realm.
    pub realm: String,
    /// The digest algorithms that are offered, in this order.
    pub algorithms: Vec<Algorithm>,
    /// Shorter wishes are answered 423 with this value.
    pub expires_min: Duration,
    /// Longer wishes are shortened to this value.
    pub expires_max: Duration,
    /// Given to a contact that wishes nothing.
    pub expires_default: Duration,
    /// Contacts of one address of record at one time.
    pub contacts_max: usize,
    /// What is done about those who guess passwords.
    pub guesses: GuessLimits,
}

impl Default for RegistrarConfig {
    fn default() -> Self {
        Self {
            realm: "convoke".to_owned(),
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            expires_min: Duration::from_mins(1),
            expires_max: Duration::from_hours(1),
            expires_default: Duration::from_mins(10),
            contacts_max: 10,
            guesses: GuessLimits::default(),
        }
    }
}

/// Everything the agent is told once, when it is made.
#[derive(Clone)]
pub struct AgentConfig {
    /// The User-Agent and Server header.
    pub user_agent: String,
    /// The user part of our Contact and, where no caller is named, of From.
    pub contact_user: String,
    /// What becomes of calls that others place to us.
    pub incoming: IncomingPolicy,
    /// Set on a server that phones register with.
    pub registrar: Option<RegistrarConfig>,
    /// Who may register, with which secret.
    pub users: Arc<dyn Users + Send + Sync>,
    /// Call-IDs and tags of our calls are derived from this, so that a later process of the same node recognises
    /// them. Keep it secret and keep it the same across restarts.
    pub node_secret: [u8; 32],
    /// The seed of everything else that has to be unguessable; fresh for each process.
    pub seed: [u8; 32],
    /// Grows from each process of a node to the next by more than what one says in a dialog and has no time to write down:
    /// requests of a later one are numbered above those of an earlier one. Zero where no process follows another.
    pub process: u32,
    /// Estimated round trip, 500 ms (RFC 3261 §17.1.1.1); all of the protocol's timers are multiples of it.
    pub t1: Duration,
    /// A target that has not said a word is left after this, if there is another one to try.
    pub failover_after: Duration,
    /// The session interval that is asked for (RFC 4028): a session that nobody refreshes in that time is ended. Zero
    /// for none of our own; at least 90 s, at most a day.
    pub session_expires: Duration,
    /// An incoming call is refused with 480 when the user of the agent has not answered it by then.
    pub incoming_ring_for: Duration,
    /// Transactions at one time; more requests are answered 503 without state.
    pub transactions_max: usize,
    /// Legs at one time; more calls are refused with 503.
    pub legs_max: usize,
    /// Stream connections at one time. One more takes the place of the one that has done nothing for longest and that no
    /// registration and no call uses; if all are used, it is closed.
    pub streams_max: usize,
    /// As `streams_max`, for connections from one address.
    pub streams_per_address_max: usize,
    /// A stream on which nothing was received for this long is closed, unless a dialog uses it.
    pub stream_idle: Duration,
    /// An earlier process of this node left legs that will be taken up: until [`Order::TakenUp`], or this is over, what
    /// their peers say waits, and nobody is told that a dialog does not exist.
    pub take_up_within: Option<Duration>,
    /// Report every message as [`Report::Trace`], credentials masked.
    pub trace: bool,
}

impl AgentConfig {
    /// The defaults of a softphone: no registrar, calls are delivered.
    pub fn new(user_agent: impl Into<String>, node_secret: [u8; 32], seed: [u8; 32]) -> Self {
        Self {
            user_agent: user_agent.into(),
            contact_user: "convoke".to_owned(),
            incoming: IncomingPolicy::Deliver,
            registrar: None,
            users: Arc::new(Nobody),
            node_secret,
            seed,
            process: 0,
            t1: Duration::from_millis(500),
            failover_after: Duration::from_secs(4),
            session_expires: Duration::ZERO,
            incoming_ring_for: Duration::from_mins(3),
            transactions_max: 50_000,
            legs_max: 20_000,
            streams_max: 10_000,
            streams_per_address_max: 1_000,
            stream_idle: Duration::from_mins(10),
            take_up_within: None,
            trace: false,
        }
    }
}

impl fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentConfig")
            .field("user_agent", &self.user_agent)
            .field("incoming", &self.incoming)
            .field("registrar", &self.registrar)
            .finish_non_exhaustive()
    }
}

/// Whose secret is it? A pure look-up in data that the shell keeps up to date.
pub trait Users {
    /// The stored hash `H(username:realm:password)` of a user, in lower-case hex.
    ///
    /// `domain` is the host of the address of record: it names the tenant. With any other host the user name must be
    /// the only one of its kind in the server; if it is not, the answer is [`Lookup::Ambiguous`].
    fn ha1(&self, username: &str, domain: &str, algorithm: Algorithm) -> Lookup;
}

/// What [`Users`] knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The hash, and the key under which the user's contacts are kept and reported (any text without meaning to
    /// the agent, for example the user's id).
    Ha1 {
        ha1: String,
        aor: String,
    },
    Unknown,
    /// Several tenants have a user of this name.
    Ambiguous,
}

/// The [`Users`] of an agent that nobody registers with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Users for Nobody {
    fn ha1(&self, _username: &str, _domain: &str, _algorithm: Algorithm) -> Lookup {
        Lookup::Unknown
    }
}

/// What the shell and the user of the agent tell it.
#[derive(Debug)]
pub enum Input<'a> {
    /// A UDP socket is bound, or a TCP listener. `advertised` is what we write into Via and Contact. May be
    /// repeated with another `advertised`.
    Listening { flow: Flow, transport: Transport, local: SocketAddr, advertised: SocketAddr },
    /// A datagram arrived on a UDP flow.
    Datagram { flow: Flow, source: SocketAddr, bytes: &'a [u8] },
    /// Bytes arrived on a connection. The first call for an unknown flow makes it known: a connection that the peer
    /// opened.
    Stream { flow: Flow, source: SocketAddr, local: SocketAddr, bytes: &'a [u8] },
    /// A peer has opened a connection. Bytes of a connection that was not told of make it known too.
    Accepted { flow: Flow, source: SocketAddr, local: SocketAddr },
    /// A connection is gone.
    StreamClosed { flow: Flow },
    /// A connection that [`Output::Connect`] asked for stands.
    Connected { connect: ConnectId, flow: Flow, local: SocketAddr, remote: SocketAddr },
    /// A connection that [`Output::Connect`] asked for could not be established.
    ConnectFailed { connect: ConnectId },
    /// The answer to [`Output::LookUp`].
    LookedUp { query: QueryId, answer: Answer },
    /// Something is to be done.
    Order(Order),
    /// Time has passed; give it whenever [`crate::agent::Agent::deadline`] is reached.
    Time,
}

/// What the shell is to do, or the user of the agent to know.
#[derive(Debug)]
pub enum Output {
    /// Send this. On a UDP flow it is one datagram; on a connection `destination` is its peer.
    Transmit { flow: Flow, destination: SocketAddr, bytes: Vec<u8> },
    /// Open a connection; answer with [`Input::Connected`] or [`Input::ConnectFailed`].
    Connect { connect: ConnectId, transport: Transport, destination: SocketAddr },
    /// Close a connection.
    CloseFlow(Flow),
    /// Ask DNS; answer with [`Input::LookedUp`]. A shell that knows only addresses says of everything else that there
    /// is none.
    LookUp { query: QueryId, question: Question },
    /// Something happened.
    Report(Report),
}

/// What the user of the agent wants done. Orders that no longer fit the state of their leg are ignored: the report
/// that made them late is already on its way.
#[derive(Clone, Debug)]
pub enum Order {
    /// Ring all branches at once; the first to answer wins, the others are cancelled. Ignored if there is a leg of
    /// this key already.
    Dial(Box<Dial>),
    /// As [`Order::Dial`], for a leg that an earlier process of this node dialled and that may still ring: the INVITE is
    /// the same, and requests within its dialogs begin above the numbers that the earlier process may have used.
    DialAgain(Box<Dial>),
    /// Send the ACK of the 2xx that [`Report::Answered`] told of. Until then it is held back, and the peer repeats
    /// its 2xx; after about 32 s without it the peer gives up.
    Confirm { leg: LegKey },
    /// End the leg, whatever state it is in: CANCEL, BYE, or a final refusal.
    HangUp { leg: LegKey, cause: HangUpCause },
    /// End a dialog of an earlier process with a BYE made from its snapshot. Reported as [`Report::Ended`].
    HangUpSnapshot { leg: LegKey, snapshot: Snapshot, cause: HangUpCause },
    /// Go on with a dialog of an earlier process, as if this one had made it. Order [`Order::Reinvite`] next: it tells
    /// the peer where we are, and whether the peer is still there. Reported is nothing but what becomes of that; a
    /// snapshot that cannot be read, as [`Report::Ended`]. Ignored if there is a leg of this key already.
    TakeUp(Box<TakeUp>),
    /// All legs of an earlier process are taken up, dialled or hung up again.
    TakenUp,
    /// End an INVITE of an earlier process of this node that nobody answered: CANCEL is derived again from the leg
    /// and the node's secret. Not reported; a 2xx that comes after all is acknowledged and ended.
    CancelDerived(Box<CancelDerived>),
    /// Offer a changed session to the peer. One is under way at a time; a second one waits for the first, and a
    /// third replaces the second.
    Reinvite { leg: LegKey, offer: Vec<u8> },
    /// Answer to [`Report::Offered`].
    AnswerOffer { leg: LegKey, sdp: Vec<u8> },
    /// Refuse what [`Report::Offered`] told of, usually with 488; the session stays as it was.
    RefuseOffer { leg: LegKey, status: u16 },
    /// Answer an incoming call with 200. If its INVITE had no offer, `sdp` is ours, and [`Report::Confirmed`] brings
    /// the answer.
    Accept { leg: LegKey, sdp: Vec<u8> },
    /// Answer an incoming call provisionally: 180, or 183 with early media. Done reliably only if the caller insists.
    Ring { leg: LegKey, status: u16, sdp: Option<Vec<u8>> },
    /// As [`Order::Ring`], but repeated until it has arrived, if the caller knows how to tell so (RFC 3262). A
    /// description is then the answer to the INVITE's offer, and what [`Order::Accept`] says is not.
    RingReliably { leg: LegKey, status: u16, sdp: Option<Vec<u8>> },
    /// Refuse an incoming call. Reported as [`Report::Ended`].
    Refuse { leg: LegKey, status: u16 },
    /// Register with a registrar and keep the registration alive.
    Register(Box<Register>),
    /// Give a registration up.
    Unregister { key: u64 },
    /// Ask a target whether it lives, with OPTIONS; any answer will do. Reported as [`Report::Pinged`].
    Ping { key: u64, target: Uri },
    /// Take a contact of an earlier process back into the registrar, as [`Report::Bound`] gave it.
    RestoreBinding(Box<Binding>),
    /// Forget all contacts of an address of record. Reported as [`Report::Unbound`], one by one.
    RemoveBindings { aor: String },
    /// Refuse new dialogs with 503 from here on.
    Drain,
    /// While it is true, new dialogs and registrations are refused with 503 before anything is done about them. What
    /// goes on goes on, and what ends calls gets through.
    Overloaded(bool),
}

/// [`Order::Dial`].
#[derive(Clone, Debug)]
pub struct Dial {
    pub leg: LegKey,
    /// At most [`crate::agent::BRANCHES_MAX`]; more are left out.
    pub branches: Vec<Branch>,
    pub caller: Caller,
    /// The SDP offer.
    pub offer: Vec<u8>,
    /// The leg fails with [`FailedBecause::RingTimeout`] when nobody answered by then.
    pub ring_for: Duration,
    /// For a peer that asks for digest authentication.
    pub credentials: Option<Credentials>,
    /// Header fields to add to each INVITE, name and value.
    pub extra_headers: Vec<(String, String)>,
}

/// [`Order::TakeUp`].
#[derive(Clone, Debug)]
pub struct TakeUp {
    pub leg: LegKey,
    pub snapshot: Snapshot,
    /// For a peer that asks for digest authentication.
    pub credentials: Option<Credentials>,
}

/// [`Order::CancelDerived`], with what the [`Dial`] of the earlier process said.
#[derive(Clone, Debug)]
pub struct CancelDerived {
    pub leg: LegKey,
    pub waits: Waits,
    pub caller: Caller,
    pub calls: Vec<Dialled>,
    /// The dialog of the target that has answered: that one is left alone.
    pub but: Option<Snapshot>,
    pub cause: HangUpCause,
}

/// What waits until every CANCEL of [`CancelDerived`] is answered or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// The end of a leg that is not known otherwise: it is told after that, as [`Report::Failed`].
    End,
    /// The end of a leg that is known, whenever it comes, or of one whose [`Order::HangUp`] or [`Order::HangUpSnapshot`] was
    /// given just before.
    Leg,
}

/// What one [`Dial`] of an earlier process has made ring.
#[derive(Clone, Debug)]
pub struct Dialled {
    pub leg: LegKey,
    /// All branches, in any order.
    pub branches: Vec<Branch>,
    /// Whether the peer may have asked who calls, so that a second INVITE was sent.
    pub has_credentials: bool,
}

/// One device, or one chain of targets that stand in for each other, that rings.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The Request-URI: a registered contact, or the number at a trunk.
    pub request_uri: Uri,
    /// The To header's URI where it differs: the address of record.
    pub to: Option<Uri>,
    /// Routes to set: the registered Path, topmost first.
    pub routes: Vec<Uri>,
    /// Where to send it, past all look-ups: the source of the registration.
    pub hint: Option<Hint>,
    /// What to write into Via and Contact for this peer where it differs from the flow's advertised address.
    pub advertised: Option<SocketAddr>,
    /// Request-URIs to try in turn when the one before failed with 408, 5xx, silence or no connection.
    pub alternatives: Vec<Uri>,
    /// An offer for this branch alone.
    pub offer: Option<Vec<u8>>,
    /// The registered contact that it rings.
    pub registered: Option<Registered>,
}

/// The contact of a phone, by what stays when it registers again from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// As in [`Binding::aor`].
    pub aor: String,
    /// As in [`Binding::instance`]; without it the user part of the contact tells it from others.
    pub instance: Option<String>,
}

impl Branch {
    /// A branch that goes where its Request-URI says.
    pub fn to_uri(request_uri: Uri) -> Self {
        Self {
            request_uri,
            to: None,
            routes: Vec::new(),
            hint: None,
            advertised: None,
            alternatives: Vec::new(),
            offer: None,
            registered: None,
        }
    }
}

/// Where a registered contact really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The flow by which it registered, used if it still exists.
    pub flow: Option<Flow>,
    pub transport: Transport,
    pub destination: SocketAddr,
}

/// Who calls, as the callee's display shows it.
#[derive(Clone, Debug)]
pub struct Caller {
    pub display: Option<String>,
    pub uri: Uri,
    /// P-Asserted-Identity, for trunks that trust us (RFC 3325).
    pub asserted: Option<Uri>,
}

/// Our secret for digest authentication. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// [`Order::Register`].
#[derive(Clone, Debug)]
pub struct Register {
    /// Names the registration in reports and in [`Order::Unregister`]; the same key again replaces it.
    pub key: u64,
    /// Where to send it, and its Request-URI: `sip:host[:port]`.
    pub registrar: Uri,
    /// The address of record: To and From.
    pub aor: Uri,
    /// The user part of the contact.
    pub contact_user: String,
    pub credentials: Option<Credentials>,
    /// The wish; the registrar may shorten it. Refreshed in good time before its end.
    pub expires: Duration,
}

/// Why a leg is hung up: the Reason header (RFC 3326) and, for a call that is still incoming, the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HangUpCause {
    /// `Reason: SIP;cause=…;text="…"`.
    pub reason: Option<(u16, String)>,
    /// The refusal of an incoming call; 603 if not said.
    pub status: Option<u16>,
}

impl HangUpCause {
    /// With a Reason header.
    pub fn because(cause: u16, text: impl Into<String>) -> Self {
        Self { reason: Some((cause, text.into())), status: None }
    }
}

/// A dialog as bytes, from which a later process can go on with it or end it. Opaque and versioned; at most a few kilobytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(pub Vec<u8>);

/// Why a leg never was connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedBecause {
    /// The peer said so; of several branches the best answer (RFC 3261 §16.7).
    Refused,
    /// It rang, or nothing was heard, until `ring_for` was over. Status 408.
    RingTimeout,
    /// No address, no connection, or not a word within the transaction's time. Status 408 or 503.
    Unreachable,
    /// By [`Order::HangUp`]. Status 487.
    Cancelled,
    /// The agent could not do it: too many legs (503) or an order without a branch (400).
    Local,
}

/// Why a leg is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The peer sent BYE; its Reason header's cause, if there was one.
    Bye { cause: Option<u16> },
    /// The caller of an incoming call gave up; a cause of 200 says that it was answered elsewhere.
    Cancelled { cause: Option<u16> },
    /// By [`Order::HangUp`], [`Order::HangUpSnapshot`] or [`Order::Refuse`].
    HungUp,
    /// The session timer ran out (RFC 4028).
    SessionExpired,
    /// The peer does not know the dialog, or does not answer within it any longer.
    Lost,
    /// Our 2xx was never acknowledged.
    NotConfirmed,
    /// Nobody answered the incoming call in time.
    NotAnswered,
}

/// A tone sent by INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tone {
    /// `0`–`9`, `*`, `#`, `A`–`D`.
    pub digit: char,
    pub duration: Option<Duration>,
}

/// A contact of an address of record, with all facts needed to store it and to ring it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The key that [`Users`] gave.
    pub aor: String,
    /// The address of record as the phone wrote it in To: the To of our calls to it.
    pub aor_uri: Uri,
    /// The contact as the phone wrote it: our Request-URI.
    pub contact: Uri,
    /// Topmost first (RFC 3327).
    pub path: Vec<Uri>,
    /// Where the registration came from: our destination, which gets through NATs.
    pub source: SocketAddr,
    pub transport: Transport,
    /// The flow it came by. After a restart, or when the connection is gone, one that does not exist.
    pub flow: Flow,
    pub call_id: String,
    pub cseq: u32,
    /// Preference in thousandths, 1000 if not said.
    pub q_thousandths: u16,
    pub user_agent: Option<String>,
    /// `+sip.instance` (RFC 5626).
    pub instance: Option<String>,
    pub expires_at: Instant,
}

impl Binding {
    /// The branch that rings this contact.
    pub fn branch(&self) -> Branch {
        Branch {
            to: Some(self.aor_uri.clone()),
            routes: self.path.clone(),
            registered: Some(Registered { aor: self.aor.clone(), instance: self.instance.clone() }),
            // With a Path (RFC 3327) the source is the proxy that its topmost element names. Whatever a phone writes into
            // Contact or Path: its calls go to where its password came from.
            hint: Some(Hint { flow: Some(self.flow), transport: self.transport, destination: self.source }),
            ..Branch::to_uri(self.contact.clone())
        }
    }
}

/// Why a contact is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnboundBecause {
    /// The phone said so.
    Unregistered,
    Expired,
    /// The connection by which it registered is closed.
    FlowClosed,
    /// [`Order::RemoveBindings`].
    Removed,
}

/// Which way a traced message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Received,
    Sent,
}

/// What the agent counts; never reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub requests_received: u64,
    pub responses_received: u64,
    pub malformed_received: u64,
    pub requests_sent: u64,
    pub responses_sent: u64,
    pub retransmissions_sent: u64,
    pub shed: u64,
    pub authentication_failed: u64,
    pub stray_received: u64,
    /// Requests and responses of a call that came from somewhere else than the call's peer.
    pub foreign_received: u64,
    /// Passwords that were not looked at, because whoever sent them has to wait.
    pub guesses_refused: u64,
    /// Connections that were closed because they held room and did nothing.
    pub streams_evicted: u64,
}

/// What happened. Each leg that was dialled or that came in ends with exactly one [`Report::Failed`] or
/// [`Report::Ended`], and nothing follows it.
#[derive(Clone, Debug)]
pub enum Report {
    /// A branch rings; once per status and branch.
    Ringing { leg: LegKey, status: u16, early_sdp: Option<Vec<u8>> },
    /// The first 2xx. Answer with [`Order::Confirm`]. `source` is where it came from.
    Answered { leg: LegKey, branch: usize, sdp: Vec<u8>, snapshot: Snapshot, source: SocketAddr },
    /// A dialled leg was never connected. With a status of 300 to 399 `contacts` are where the peer says that it can be
    /// reached, most wanted first (RFC 3261 §8.1.3.4): `sip` URIs, at most [`crate::agent::REDIRECTS_MAX`]. Whom to
    /// follow is for the user of the agent to decide.
    Failed {
        leg: LegKey,
        status: u16,
        because: FailedBecause,
        phrase: String,
        retry_after: Option<Duration>,
        contacts: Vec<Uri>,
    },
    /// The peer offers a changed session: answer with [`Order::AnswerOffer`] or [`Order::RefuseOffer`] within about
    /// ten seconds.
    Offered { leg: LegKey, sdp: Vec<u8>, snapshot: Snapshot },
    /// The answer to our [`Order::Reinvite`], or a peer's answer to an offer that it had asked for.
    OfferAnswered { leg: LegKey, sdp: Vec<u8>, snapshot: Snapshot },
    /// Our [`Order::Reinvite`] was refused; the session stays as it was.
    OfferFailed { leg: LegKey, status: u16 },
    /// The dialog changed without a change of the session: keep the new snapshot.
    Reshaped { leg: LegKey, snapshot: Snapshot },
    /// The leg is over. `local` says who ended it.
    Ended { leg: LegKey, reason: EndReason, local: bool },
    /// Somebody calls.
    Incoming(Box<Incoming>),
    /// Our 2xx was acknowledged; with the answer, if the INVITE had no offer.
    Confirmed { leg: LegKey, sdp: Option<Vec<u8>>, snapshot: Snapshot },
    /// A tone by INFO.
    Dtmf { leg: LegKey, tone: Tone },
    /// A registration stands, for so long; it is refreshed by itself, and each refresh is reported.
    Registered { key: u64, expires: Duration },
    /// A registration failed or was lost. Tried again by itself in a while, except on 401, 403 and 404.
    RegisterFailed { key: u64, status: u16 },
    /// A registration was given up.
    Unregistered { key: u64 },
    /// The outcome of [`Order::Ping`].
    Pinged { key: u64, alive: bool },
    /// A phone registered a contact, or refreshed it.
    Bound(Box<Binding>),
    /// A contact is gone.
    Unbound { aor: String, contact: Uri, because: UnboundBecause },
    /// A message as it is on the wire, credentials masked; only when tracing is on.
    Trace { direction: Direction, transport: Transport, peer: SocketAddr, bytes: Vec<u8> },
}

/// [`Report::Incoming`].
#[derive(Clone, Debug)]
pub struct Incoming {
    pub leg: LegKey,
    pub request_uri: Uri,
    pub from_display: Option<String>,
    pub from: Uri,
    pub to: Uri,
    pub asserted: Option<Uri>,
    pub call_id: String,
    /// The offer, if the INVITE had one.
    pub sdp: Option<Vec<u8>>,
    pub source: SocketAddr,
}
