//! Arguments as they stand, before clap sees them: which command is meant where none stands, and what may be a password.

use std::ffi::OsString;

/// The arguments with `run` where no command stands, and where the command stands.
///
/// The options for all commands may come before a command. A word that is no option, in the place of a command, is left
/// for clap to refuse, which knows what it resembles. Help and version, asked for before any command, are those of the
/// program as a whole.
pub(super) fn with_command(
    command: &clap::Command,
    mut arguments: Vec<OsString>,
) -> (Vec<OsString>, usize) {
    let mut at = 1.min(arguments.len());
    while let Some(option) = option(command, arguments.get(at)) {
        at += option;
    }
    match arguments.get(at).and_then(|word| word.to_str()) {
        Some("-h" | "--help" | "-V" | "--version") => {}
        // clap has no `help --help`.
        Some("help") => drop_help(&mut arguments, at + 1),
        Some(word) if !word.starts_with('-') => {}
        _ => arguments.insert(at, "run".into()),
    }
    (arguments, at)
}

/// How many arguments the option of all commands at this place takes up, itself included.
fn option(command: &clap::Command, argument: Option<&OsString>) -> Option<usize> {
    let word = argument?.to_str()?.strip_prefix("--")?;
    let (name, has_value) = match word.split_once('=') {
        Some((name, _)) => (name, true),
        None => (word, false),
    };
    let mut options = command.get_arguments();
    let option = options.find(|option| {
        let aliases = option.get_all_aliases().unwrap_or_default();
        option.get_long() == Some(name) || aliases.contains(&name)
    })?;
    let takes_value = option.get_action().takes_values();
    option
        .is_global_set()
        .then_some(if takes_value && !has_value { 2 } else { 1 })
}

/// Drops requests for help from `from` on.
fn drop_help(arguments: &mut Vec<OsString>, from: usize) {
    let mut at = 0;
    arguments.retain(|word| {
        at += 1;
        at <= from || !(word == "-h" || word == "--help")
    });
}

/// Words that follow the value of a `--set`, up to the next option that is known by its form: a value with spaces that lacks
/// its quotes ends up there. The word right behind the value may even look like an option.
pub(super) fn after_settings(arguments: &[OsString]) -> Vec<String> {
    let mut found = Vec::new();
    let mut words = arguments
        .iter()
        .map(|word| word.to_string_lossy())
        .peekable();
    while let Some(word) = words.next() {
        if word == "--set" {
            words.next();
        } else if !word.starts_with("--set=") {
            continue;
        }
        found.extend(words.peek().map(ToString::to_string));
        while let Some(word) = words.next_if(|word| !word.starts_with('-')) {
            found.push(word.into_owned());
        }
    }
    found
}
