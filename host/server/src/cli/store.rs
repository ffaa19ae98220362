//! `leveret store`: what is on disk, while no broker uses it.

use super::printable;
use crate::{
    config::{DATA_DIR_DEFAULT, Settings},
    store::look::{QueueStat, StoreCheck, StoreLook, StoreStat},
};
use anyhow::bail;
use clap::{Args, Subcommand};
use std::{io::Write, path::PathBuf};

#[derive(Args, Debug)]
pub(crate) struct StoreArguments {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand, Debug)]
enum StoreCommand {
    /// What the store of a stopped broker has: queues with their messages, and what exchange types keep
    Stat(Where),
    /// Read all of it, and say what is damaged; exit code 1 if anything is
    Check(Where),
    /// Go on with what is left of a store that the broker does not open because too much of it is damaged: what cannot
    /// be read is set aside, and the rest is all that there is from then on. Keep a copy of the folder first
    Salvage(Folder),
}

#[derive(Args, Debug)]
struct Folder {
    /// Data folder of the broker [default: leveret-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Where {
    #[command(flatten)]
    folder: Folder,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Folder {
    fn open(self, settings: &Settings) -> anyhow::Result<StoreLook> {
        let data_dir = self.data_dir.or_else(|| settings.data_dir.clone());
        StoreLook::open(&data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT)))
    }
}

impl StoreArguments {
    /// Does what was asked; `settings` say where the broker's data is, if the command does not.
    pub(crate) fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match self.command {
            StoreCommand::Stat(there) => {
                let json = there.json;
                let stat = there.folder.open(settings)?.stat()?;
                if json {
                    writeln!(out, "{:#}", serde_json::to_value(&stat)?)?;
                    return Ok(());
                }
                show(&mut out, &stat)
            }
            StoreCommand::Check(there) => {
                let json = there.json;
                let check = there.folder.open(settings)?.check();
                if json {
                    writeln!(out, "{:#}", serde_json::to_value(&check)?)?;
                } else {
                    show_check(&mut out, &check)?;
                }
                if !check.sound {
                    bail!("the store has {} problems", check.problem_count);
                }
                Ok(())
            }
            StoreCommand::Salvage(folder) => {
                let Some((lost, set_aside)) = folder.open(settings)?.salvage()? else {
                    bail!("the broker opens this store as it is; nothing was changed");
                };
                writeln!(out, "{}", lost.as_deref().unwrap_or("nothing is known to be lost"))?;
                for file in set_aside {
                    writeln!(out, "set aside: {}", printable(&file))?;
                }
                writeln!(out, "the broker can be started")?;
                Ok(())
            }
        }
    }
}

fn show(out: &mut impl Write, stat: &StoreStat) -> anyhow::Result<()> {
    let end = if stat.clean {
        "closed"
    } else {
        "not closed, as after a crash: messages count as delivered before"
    };
    writeln!(out, "state      {end}")?;
    writeln!(out, "messages   {} with {} bytes", stat.messages, stat.live_bytes + stat.extent_bytes)?;
    writeln!(out, "values     {}", stat.values)?;
    writeln!(out, "journal    {} bytes", stat.segment_bytes)?;
    for checkpoint in &stat.checkpoints {
        let state = match (checkpoint.readable, checkpoint.used) {
            (false, _) => "damaged",
            (true, true) => "the one that a start reads",
            (true, false) => "in reserve",
        };
        writeln!(
            out,
            "checkpoint {} up to batch {}, {state}",
            printable(&checkpoint.file),
            checkpoint.batch
        )?;
    }
    for file in &stat.set_aside {
        writeln!(out, "set aside  {}", printable(file))?;
    }
    if let Some(refusal) = &stat.refusal {
        writeln!(out, "no start   {}", printable(refusal))?;
    }
    if stat.problems > 0 {
        writeln!(out, "problems   {}; `leveret store check` tells them", stat.problems)?;
    }
    for vhost in &stat.vhosts {
        writeln!(out)?;
        writeln!(out, "virtual host {}", printable(&vhost.name))?;
        writeln!(
            out,
            "{} exchanges, {} bindings, {} messages held",
            vhost.exchanges, vhost.bindings, vhost.held
        )?;
        show_queues(out, &vhost.queues)?;
    }
    if !stat.kept.is_empty() {
        writeln!(out)?;
        writeln!(out, "{:>10}  {:>10}  {:>5}  KEPT BY EXCHANGE", "VALUES", "MESSAGES", "TYPE")?;
    }
    for kept in &stat.kept {
        let (exchange, vhost) = (printable(&kept.exchange), printable(&kept.vhost));
        writeln!(
            out,
            "{:>10}  {:>10}  {:>5}  {exchange} in virtual host {vhost}{}",
            kept.values,
            kept.messages,
            kept.layer,
            kept.left_by
                .as_ref()
                .map_or(String::new(), |digest| format!(", as version {digest:.12} left it"))
        )?;
    }
    if !stat.unnamed.is_empty() {
        writeln!(out)?;
        writeln!(out, "queues that nothing refers to")?;
        show_queues(out, &stat.unnamed)?;
    }
    Ok(())
}

fn show_queues(out: &mut impl Write, queues: &[QueueStat]) -> std::io::Result<()> {
    if !queues.is_empty() {
        writeln!(out, "{:>10}  {:>12}  {:>12}  {:>8}  QUEUE", "MESSAGES", "FIRST", "NEXT", "ID")?;
    }
    for QueueStat { name, id, messages, first, next } in queues {
        writeln!(out, "{messages:>10}  {first:>12}  {next:>12}  {id:>8}  {}", printable(name))?;
    }
    Ok(())
}

fn show_check(out: &mut impl Write, check: &StoreCheck) -> std::io::Result<()> {
    writeln!(out, "{} messages were read", check.messages_read)?;
    for problem in &check.problems {
        writeln!(out, "{}", printable(&problem.what))?;
        writeln!(out, "    {}", printable(&problem.advice))?;
    }
    for line in check.lost.iter().chain(&check.refusal) {
        writeln!(out, "{}", printable(line))?;
    }
    if check.refusal.is_some() {
        writeln!(out, "the broker does not start with this store")?;
    }
    if check.sound {
        writeln!(out, "nothing is damaged")?;
    }
    Ok(())
}
