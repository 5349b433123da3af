//! What the program says of itself for others to read: its manual page, and completions for shells.

use std::io::{self, Write};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::{self, Identity};
use crate::failure::Failure;
use crate::output::print;

/// Prints the manual page (`man(7)`): that of the program, then one section for each command.
pub(crate) fn man(identity: Identity) -> Result<(), Failure> {
    let mut command = cli::command(identity);
    command.build();
    let mut page = Vec::new();
    write_man(&command, &mut page)
        .map_err(|error| Failure::cannot("write the manual page", error))?;
    print(&page)
}

fn write_man(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let man = Man::new(command.clone()).section("1");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    let shown = command
        .get_subcommands()
        .filter(|command| command.get_name() != "help");
    for command in shown {
        writeln!(page, ".SH COMMAND {}", command.get_name().to_uppercase())?;
        // Each part begins with a heading of its own, which becomes one of this section.
        let man = Man::new(command.clone());
        let mut text = Vec::new();
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        let text = String::from_utf8_lossy(&text).replace(".SH ", ".SS ");
        page.extend_from_slice(text.as_bytes());
    }
    Ok(())
}

/// Prints a script that makes `shell` complete commands and options.
pub(crate) fn completions(identity: Identity, shell: Shell) -> Result<(), Failure> {
    let mut command = cli::command(identity);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, identity.name, &mut script);
    print(&script)
}
