//! Becoming another user.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::str::FromStr;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist, setgid, setgroups, setuid};

use super::PrivilegesError;

/// A user as it is written on the command line: a name or a number, with `:GROUP` if it is not the user's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserName {
    user: String,
    group: Option<String>,
}

impl FromStr for UserName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() || group.is_some_and(str::is_empty) {
            return Err("expected USER or USER:GROUP, names or numbers");
        }
        Ok(Self {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        })
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some(group) => write!(f, "{}:{group}", self.user),
            None => f.write_str(&self.user),
        }
    }
}

impl UserName {
    /// Becomes this user, with its groups. What root could do is over then.
    pub(super) fn change_to(&self) -> Result<(), PrivilegesError> {
        let known = self.lookup()?;
        let uid = match &known {
            Some(user) => user.uid,
            None => Uid::from_raw(self.user.parse().map_err(|_| self.unknown())?),
        };
        let own = known.as_ref().map(|user| user.gid);
        let group = match &self.group {
            Some(group) => Some(group_id(group)?),
            None => own,
        };
        // A number without a name has the group of the same number.
        let group = group.unwrap_or_else(|| Gid::from_raw(uid.as_raw()));
        let groups = match &known {
            Some(user) => {
                let name = CString::new(user.name.as_str()).map_err(|_| self.unknown())?;
                getgrouplist(&name, group).unwrap_or_else(|_| vec![group])
            }
            None => vec![group],
        };
        let change = || {
            setgroups(&groups)?;
            setgid(group)?;
            setuid(uid)
        };
        change().map_err(|error| PrivilegesError::Become {
            name: self.to_string(),
            source: io::Error::from(error),
        })
    }

    fn lookup(&self) -> Result<Option<User>, PrivilegesError> {
        if let Ok(Some(user)) = User::from_name(&self.user) {
            return Ok(Some(user));
        }
        match self.user.parse() {
            Ok(number) => Ok(User::from_uid(Uid::from_raw(number)).unwrap_or(None)),
            Err(_) => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> PrivilegesError {
        PrivilegesError::NoUser(self.user.clone())
    }
}

fn group_id(name: &str) -> Result<Gid, PrivilegesError> {
    if let Ok(Some(group)) = Group::from_name(name) {
        return Ok(group.gid);
    }
    let number = name.parse().map(Gid::from_raw);
    number.map_err(|_| PrivilegesError::NoGroup(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_written_with_or_without_a_group() {
        for text in ["nobody", "nobody:nogroup", "65534", "65534:0"] {
            assert_eq!(text.parse::<UserName>().unwrap().to_string(), text);
        }
        for text in ["", ":", "nobody:", ":nogroup"] {
            assert!(text.parse::<UserName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn who_is_not_there_is_told() {
        let told = |text: &str| {
            let user: UserName = text.parse().unwrap();
            user.change_to().unwrap_err().to_string()
        };
        assert!(told("no such user").starts_with("there is no user \"no such user\""));
    }
}
