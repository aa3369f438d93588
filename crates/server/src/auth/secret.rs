//! Client secrets: kept as argon2id hashes, verified on few threads, and remembered for a while so that a burst of
//! clients costs one verification.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use aws_lc_rs::hmac;
use tokio::sync::{OnceCell, Semaphore};

/// A secret that was right is taken for right that long without looking again.
const REMEMBERED_FOR: Duration = Duration::from_mins(5);

/// More are not remembered: the oldest make room.
const REMEMBERED_MAX: usize = 4096;

/// Verifications at once: each takes a core for tens of milliseconds and 19 MiB.
const AT_ONCE: usize = 2;

/// Distinct secrets that may wait for a verification; clients beyond are asked to come back.
const WAITING_MAX: usize = 64;

/// Longer secrets are not looked at.
const SECRET_MAX: usize = 1024;

/// The argon2id hash that the directory keeps of a secret.
///
/// # Panics
/// When the operating system has no randomness to give.
pub fn hash_secret(secret: &str) -> String {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).expect("the operating system gives random bytes");
    let salt = SaltString::encode_b64(&salt).expect("sixteen bytes are a salt");
    Argon2::default()
        .hash_password(secret.as_bytes(), &salt)
        .expect("argon2 hashes any text with its default parameters")
        .to_string()
}

/// Whether `hash` is one of `secret`: tens of milliseconds of work.
pub fn secret_matches(secret: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(secret.as_bytes(), &hash).is_ok())
}

/// Too many secrets wait for verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overloaded;

/// Verifies secrets.
#[derive(Debug)]
pub struct Secrets {
    /// What is remembered is worthless to whoever reads our memory later: the key dies with the process.
    key: hmac::Key,
    remembered: Mutex<HashMap<Fingerprint, Instant>>,
    running: Mutex<HashMap<Fingerprint, Arc<OnceCell<bool>>>>,
    threads: Semaphore,
}

type Fingerprint = [u8; 32];

impl Default for Secrets {
    fn default() -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            remembered: Mutex::default(),
            running: Mutex::default(),
            threads: Semaphore::new(AT_ONCE),
        }
    }
}

impl Secrets {
    /// Whether `secret` was found right a short while ago.
    pub fn remembers(&self, secret: &str, hash: &str) -> bool {
        self.is_remembered(&self.fingerprint(secret, hash))
    }

    /// Whether `hash` is one of `secret`. The same question asked by many at once is answered once.
    pub async fn verify(&self, secret: &str, hash: &str) -> Result<bool, Overloaded> {
        if secret.len() > SECRET_MAX {
            return Ok(false);
        }
        let fingerprint = self.fingerprint(secret, hash);
        if self.is_remembered(&fingerprint) {
            return Ok(true);
        }
        let cell = {
            let mut running = lock(&self.running);
            if running.len() >= WAITING_MAX && !running.contains_key(&fingerprint) {
                return Err(Overloaded);
            }
            Arc::clone(running.entry(fingerprint).or_default())
        };
        let waiting = Waiting { secrets: self, fingerprint, cell };
        let right = *waiting.cell.get_or_init(|| self.look(secret, hash)).await;
        drop(waiting);
        if right {
            self.remember(fingerprint);
        }
        Ok(right)
    }

    async fn look(&self, secret: &str, hash: &str) -> bool {
        let Ok(_permit) = self.threads.acquire().await else { return false };
        let (secret, hash) = (secret.to_owned(), hash.to_owned());
        tokio::task::spawn_blocking(move || secret_matches(&secret, &hash)).await.unwrap_or(false)
    }

    fn fingerprint(&self, secret: &str, hash: &str) -> Fingerprint {
        // A hash holds no NUL, so the two cannot be told apart differently.
        hmac::sign(&self.key, format!("{hash}\0{secret}").as_bytes()).as_ref().try_into().unwrap_or_default()
    }

    fn is_remembered(&self, fingerprint: &Fingerprint) -> bool {
        lock(&self.remembered).get(fingerprint).is_some_and(|at| at.elapsed() < REMEMBERED_FOR)
    }

    fn remember(&self, fingerprint: Fingerprint) {
        let mut remembered = lock(&self.remembered);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, at| at.elapsed() < REMEMBERED_FOR);
        }
        if remembered.len() >= REMEMBERED_MAX {
            let oldest = remembered.iter().min_by_key(|(_, at)| **at).map(|(fingerprint, _)| *fingerprint);
            oldest.map(|oldest| remembered.remove(&oldest));
        }
        remembered.insert(fingerprint, Instant::now());
    }
}

/// One who waits for a verification. The last one, answered or gone, clears up: clients that hang up must not fill the
/// list.
struct Waiting<'a> {
    secrets: &'a Secrets,
    fingerprint: Fingerprint,
    cell: Arc<OnceCell<bool>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut running = lock(&self.secrets.running);
        // The list's and ours; others are handed out under the lock only.
        if Arc::strong_count(&self.cell) <= 2 {
            running.remove(&self.fingerprint);
        }
    }
}

/// Nothing is left half done under these locks, so a panic elsewhere does not spoil what they guard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_is_verified_once_and_remembered() {
        let secrets = Arc::new(Secrets::default());
        let hash = hash_secret("only-for-tests");
        let clients = (0..40).map(|_| {
            let (secrets, hash) = (Arc::clone(&secrets), hash.clone());
            tokio::spawn(async move { secrets.verify("only-for-tests", &hash).await })
        });
        let began = Instant::now();
        for client in clients.collect::<Vec<_>>() {
            assert_eq!(client.await.unwrap(), Ok(true));
        }
        let burst = began.elapsed();
        let began = Instant::now();
        assert!(secret_matches("only-for-tests", &hash));
        // One verification and its overhead, not forty.
        assert!(burst < began.elapsed() * 20, "{burst:?}");
        assert!(lock(&secrets.running).is_empty());
        assert_eq!(lock(&secrets.remembered).len(), 1);
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_leaves_nothing_behind() {
        let secrets = Secrets::default();
        let hash = hash_secret("right");
        let gone = secrets.verify("right", &hash);
        let mut gone = Box::pin(gone);
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        assert_eq!(lock(&secrets.running).len(), 1);
        drop(gone);
        assert!(lock(&secrets.running).is_empty());
    }

    #[tokio::test]
    async fn a_wrong_secret_is_not_remembered() {
        let secrets = Secrets::default();
        let hash = hash_secret("right");
        assert_eq!(secrets.verify("wrong", &hash).await, Ok(false));
        assert!(lock(&secrets.remembered).is_empty());
        assert!(!secret_matches("right", "no hash at all"));
    }
}
