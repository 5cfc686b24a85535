//! `sallyport demo`: the whole story on this machine, with throw-away parts and the real programs.
//!
//! Every command that it shows is run as shown, by `sh`. What it starts is a stock sshd and this very executable; what it
//! writes lies in one temporary folder. Both are gone at the end, also after Ctrl-C. It takes no root and touches
//! neither the machine's network nor its accounts: the sshd lets in nobody but whoever runs the demo.

mod stage;

use anyhow::Context as _;
use nix::unistd::{Uid, User};
use tokio::signal::unix::{SignalKind, signal};

use super::{Ended, Out};
use stage::Stage;

/// The whole story on this machine, in a minute: a stock sshd, the gateway, a caller, a denial, a replay.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) async fn run(out: &mut Out) -> anyhow::Result<Ended> {
    let stage = Stage::set()?;
    let told = tokio::select! {
        told = tell(&stage, out) => told,
        () = interrupted()? => Err(anyhow::anyhow!("the demo was interrupted; nothing of it is left")),
    };
    stage.strike().await;
    told?;
    out.line(FAREWELL)?;
    Ok(Ended::Yes)
}

/// The story, act by act.
async fn tell(stage: &Stage, out: &mut Out) -> anyhow::Result<()> {
    let me = User::from_uid(Uid::current()).ok().flatten().context("this user has no name in /etc/passwd")?.name;
    out.line(OPENING)?;

    act(out, "1. A target: a stock sshd that runs nothing of Sallyport's")?;
    let sshd = stage.start_sshd().await?;
    out.line(&format!("It listens on {sshd} and lets in {me} alone, with a certificate of the gateway's authority."))?;

    act(out, "2. The gateway, and the policy that says who may do what")?;
    stage.write("sallyport.toml", &configuration(stage.free_udp_port()?))?;
    stage.write("policy.hujson", &policy(&me))?;
    stage.show(out, "cat policy.hujson").await?;
    let key = stage.read("host_key.pub")?;
    let key = key.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    stage.show(out, &format!("sallyport target add web1 --ssh {sshd} --tag tag:demo --host-key '{key}'")).await?;
    stage.show(out, "sallyport target ca > ca.pub 2> /dev/null    # what web1's sshd trusts: one line").await?;
    stage.start_gateway(out).await?;

    act(out, "3. Alice's laptop: a WireGuard device, enrolled once")?;
    stage.show(out, "sallyport device add --user alice@example.com --name laptop --out laptop.conf").await?;
    let hers = if stage.allows_namespaces().await? { &BY_SHELL } else { &BY_PROXY };
    stage.write("ssh_config", &ssh_config(stage, &me, hers))?;
    stage
        .show(out, "sallyport ls 2> /dev/null | grep cert-authority | tee known_hosts    # ends host-key questions")
        .await?;

    act(out, "4. She uses it: stock ssh and scp, by name; no key, no password, no question")?;
    out.line(hers.explanation)?;
    let inside = hers.inside;
    stage.show(out, &format!("{inside}ssh -F ssh_config web1 'echo this is $(id -un) on web1'")).await?;
    stage.write("notes.txt", "carried by scp, through the gateway\n")?;
    let there = stage.path("arrived.txt");
    stage.show(out, &format!("{inside}scp -F ssh_config notes.txt web1:{there}")).await?;
    stage.show(out, "cat arrived.txt").await?;
    let terminal = if stage.sshd_has_terminals() { "-tt " } else { "" };
    stage.show(out, &format!("{inside}ssh -F ssh_config {terminal}web1 '{TERMINAL_WORK}'")).await?;

    act(out, "5. What the policy does not allow is refused, with the reason")?;
    stage.show_failing(out, &format!("{inside}ssh -F ssh_config admin@web1 id")).await?;
    stage.show_failing(out, "sallyport policy explain alice@example.com web1 --as admin").await?;

    act(out, "6. All of it was recorded: found, replayed, verified")?;
    stage.show(out, "sallyport sessions ls").await?;
    let id = stage.last_session_that_was_allowed().await?;
    stage.show(out, &format!("sallyport replay {id}")).await?;
    stage.show(out, &format!("sallyport verify {id}")).await?;
    out.line("\nAnd if somebody changes one byte of it:")?;
    let output = stage.output_of(&id)?;
    stage.show(out, &format!("printf X | dd of={output} bs=1 seek=200 conv=notrunc status=none")).await?;
    stage.show_failing(out, &format!("sallyport verify {id}")).await
}

fn act(out: &mut Out, title: &str) -> anyhow::Result<()> {
    out.line(&format!("\n── {title} ──"))
}

fn configuration(port: u16) -> String {
    format!(
        "[tailnet]\ndomain   = \"demo.internal\"\nlisten   = \"127.0.0.1:{port}\"\nendpoint = \"127.0.0.1:{port}\"\n"
    )
}

fn policy(me: &str) -> String {
    format!(
        r#"{{
  "groups":    {{ "group:sre": ["alice@example.com"] }},
  "tagOwners": {{ "tag:demo": ["group:sre"] }},
  "grants":    [ {{ "src": ["group:sre"], "dst": ["tag:demo"], "ip": ["tcp:22"] }} ],
  "ssh":       [ {{ "action": "accept", "src": ["group:sre"], "dst": ["tag:demo"], "users": ["{me}"] }} ],
}}
"#
    )
}

/// Only what a caller would have in ~/.ssh: here it has to lie elsewhere, to leave that alone.
fn ssh_config(stage: &Stage, me: &str, hers: &CallersSide) -> String {
    format!(
        "Host web1\n  User {me}\n\nHost *\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  \
         BatchMode yes\n  IdentityFile none\n  IdentityAgent none\n{}",
        stage.path("known_hosts"),
        hers.ssh_config
    )
}

/// How the demo's caller gets onto the tailnet.
struct CallersSide {
    explanation: &'static str,
    /// What comes before her commands.
    inside: &'static str,
    /// What her ssh needs to know.
    ssh_config: &'static str,
}

/// Resolves when the person, or the system, wants the demo to end.
fn interrupted() -> anyhow::Result<impl Future<Output = ()>> {
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    for signal in &mut signals {
        if let Err(error) = signal {
            anyhow::bail!("signals cannot be listened to: {error}");
        }
    }
    Ok(async move {
        let [Ok(interrupt), Ok(terminate), Ok(hangup)] = &mut signals else { return };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

const BY_SHELL: CallersSide = CallersSide {
    explanation: "`sallyport shell` is her side without root; a phone or laptop would use any WireGuard client.",
    inside: "sallyport shell -- ",
    ssh_config: "",
};

const BY_PROXY: CallersSide = CallersSide {
    explanation: "This machine allows no namespaces, so `sallyport proxy` is her side: ssh_config names it as ssh's ProxyCommand. A phone or\n\
                  laptop would use any WireGuard client.",
    inside: "",
    ssh_config: "  ProxyCommand sallyport proxy %h:%p\n",
};

/// A little work in a terminal, slow enough that its replay shows it happen.
const TERMINAL_WORK: &str =
    "for part in kernel system user; do printf \"\\033[32m%s\\033[0m is well\\n\" $part; sleep 0.4; done; uname -sr";

const OPENING: &str = "\
This is Sallyport on your machine: a target, the gateway, and a caller, all of it real and all of it thrown away again.
Lines that begin with $ are commands, run as you see them.";

const FAREWELL: &str = "
── That was all of it; nothing is left on your machine ──
To begin for real:
  sallyport init                                  writes sallyport.toml, a policy, and the gateway's keys
  sallyport target add web1 --ssh HOST:22 --scan  registers a machine; `sallyport target ca` lets the gateway in there
  sallyport up                                    is the gateway
  sallyport device add --user you@example.com     prints the WireGuard file for your device; --qr for a phone";
