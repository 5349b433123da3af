//! Basic authentication (RFC 7617) against bcrypt hashes.
//!
//! A comparison takes some ten milliseconds on purpose. It runs in the blocking pool, one at a time, and its result is kept
//! under a keyed digest, so that a client that asks again and again costs nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

/// Results that are kept. More users or guesses than this just cost time.
const KEPT: usize = 128;

/// Longer names and passwords are refused: bcrypt looks at 72 bytes.
const LONGEST: usize = 1024;

/// Compared with where there is no such user, so that the time does not tell. It is the hash of nothing in particular.
const NOBODY: &str = "$2b$10$C6UzMDM.H6dfI/f/IKcEeO5UZ6kwEJ6VDLdrmb1TOeeMl0vyiLr9q";

pub(super) struct Passwords {
    users: BTreeMap<String, String>,
    key: hmac::Key,
    known: Mutex<HashMap<Vec<u8>, bool>>,
    comparing: Semaphore,
}

impl Passwords {
    pub(super) fn new(users: BTreeMap<String, String>) -> Result<Self, String> {
        for (user, hash) in &users {
            if hash.parse::<bcrypt::HashParts>().is_err() {
                return Err(format!(
                    "basic_auth_users: the password of {user:?} is no bcrypt hash; make one with `htpasswd -nB {user}`"
                ));
            }
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        Ok(Self {
            users,
            key,
            known: Mutex::default(),
            comparing: Semaphore::new(1),
        })
    }

    /// Whether the request names a user and the right password.
    pub(super) async fn allow(&self, request: &HeaderMap) -> bool {
        let Some((user, password)) = credentials(request) else {
            return false;
        };
        let digest = self.digest(&user, &password);
        if let Some(known) = self.known(&digest) {
            return known;
        }
        let Ok(_turn) = self.comparing.acquire().await else {
            return false;
        };
        // Another request may have found it out meanwhile.
        if let Some(known) = self.known(&digest) {
            return known;
        }
        let hash = self.users.get(&user).cloned();
        let compared = tokio::task::spawn_blocking(move || {
            let is_right = bcrypt::verify(&password, hash.as_deref().unwrap_or(NOBODY));
            hash.is_some() && is_right.unwrap_or(false)
        });
        let Ok(is_right) = compared.await else {
            return false;
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(digest, is_right);
        is_right
    }

    fn known(&self, digest: &[u8]) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(digest).copied()
    }

    fn digest(&self, user: &str, password: &str) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&user.len().to_le_bytes());
        context.update(user.as_bytes());
        context.update(password.as_bytes());
        context.sign().as_ref().to_vec()
    }
}

fn credentials(request: &HeaderMap) -> Option<(String, String)> {
    let value = request.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || token.len() > LONGEST {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_let_in() {
        let hash = bcrypt::hash("s3:cret", 4).unwrap();
        let passwords = Passwords::new([("ann".to_owned(), hash)].into()).unwrap();
        let header = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(text).unwrap());
            headers
        };
        let basic = |text: &str| header(&format!("Basic {}", STANDARD.encode(text)));
        for _ in 0..2 {
            assert!(passwords.allow(&basic("ann:s3:cret")).await);
            assert!(!passwords.allow(&basic("ann:secret")).await);
            assert!(!passwords.allow(&basic("bob:s3:cret")).await);
        }
        assert_eq!(passwords.known.lock().unwrap().len(), 3);
        assert!(!passwords.allow(&basic("ann")).await);
        assert!(!passwords.allow(&header("Bearer x")).await);
        assert!(!passwords.allow(&HeaderMap::new()).await);
    }
}
