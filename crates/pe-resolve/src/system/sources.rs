//! Where the system looks for host names: the line `hosts` of nsswitch.conf(5). No I/O.

/// Where host names are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sources {
    /// Those that this crate knows, in the order of the file.
    pub(crate) own: Vec<Source>,
    /// Others, as `mdns4_minimal` or `resolve`, and actions such as `[NOTFOUND=return]`.
    pub(crate) others: Vec<String>,
}

/// A source that this crate knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The hosts file.
    Files,
    /// Name servers.
    Dns,
}

impl Default for Sources {
    /// What holds where the file says nothing.
    fn default() -> Self {
        Self {
            own: vec![Source::Files, Source::Dns],
            others: Vec::new(),
        }
    }
}

impl Sources {
    pub(crate) fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let line = text.lines().find_map(|line| {
            let line = line.split('#').next().unwrap_or_default();
            let (database, sources) = line.split_once(':')?;
            (database.trim() == "hosts").then_some(sources)
        });
        let Some(line) = line else {
            return Self::default();
        };
        let mut sources = Self {
            own: Vec::new(),
            others: Vec::new(),
        };
        for word in line.split_ascii_whitespace() {
            match word {
                "files" => sources.own.push(Source::Files),
                "dns" => sources.own.push(Source::Dns),
                other => sources.others.push(other.to_owned()),
            }
        }
        match sources.own.is_empty() && sources.others.is_empty() {
            true => Self::default(),
            false => sources,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_and_other_sources_are_told_apart() {
        let files_and_dns = Sources::default();
        for text in [
            "",
            "passwd: files\n",
            "hosts: files dns\n",
            "# hosts: x\nhosts:\tfiles dns # mdns\n",
            "hosts:\n",
        ] {
            assert_eq!(Sources::parse(text.as_bytes()), files_and_dns, "{text}");
        }
        let sources =
            Sources::parse(b"hosts: dns files mdns4_minimal [NOTFOUND=return] myhostname\n");
        assert_eq!(sources.own, [Source::Dns, Source::Files]);
        assert_eq!(
            sources.others,
            ["mdns4_minimal", "[NOTFOUND=return]", "myhostname"]
        );
    }
}
