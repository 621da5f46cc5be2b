//! Who may do what: API keys and their roles.

use http::{HeaderMap, Method, header};

use crate::error::AdminError;

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everyone (`admin_key_required: false`).
    Open,
    /// Who shows one of these keys.
    Keys(Vec<AdminKey>),
}

/// A key (`deployment.admin.admin_key`).
#[derive(Clone, PartialEq, Eq)]
pub struct AdminKey {
    /// For people.
    pub name: String,
    /// The secret.
    pub key: String,
    /// What it allows.
    pub role: Role,
}

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Reading.
    Viewer,
}

impl std::fmt::Debug for AdminKey {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminKey").field("name", &self.name).field("role", &self.role).finish()
    }
}

impl Access {
    /// Checks the key of a request: the query's `api_key`, else the header
    /// `X-API-KEY`, else the cookie `x_api_key`.
    pub(crate) fn check(
        &self,
        method: &Method,
        query_key: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<(), AdminError> {
        let Self::Keys(keys) = self else {
            return Ok(());
        };
        let header = || headers.get("x-api-key").and_then(|value| value.to_str().ok());
        let shown = query_key.or_else(header).or_else(|| cookie(headers, "x_api_key"));
        let shown = shown.ok_or(AdminError::Unauthorized("missing apikey"))?;
        let known = keys.iter().find(|known| same(&known.key, shown));
        match known.map(|known| known.role) {
            None => Err(AdminError::Unauthorized("wrong apikey")),
            Some(Role::Viewer) if method != Method::GET => {
                Err(AdminError::Unauthorized("invalid method for role viewer"))
            }
            Some(_) => Ok(()),
        }
    }
}

/// Compares in a time that doesn't tell how much of the key was right.
fn same(known: &str, shown: &str) -> bool {
    let differing = known.bytes().zip(shown.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    known.len() == shown.len() && differing == 0
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key.trim() == name).then(|| value.trim()))
}
