//! A caller's machine: a namespace of its own, wireguard-go set up by the file that `device add` printed, OpenSSH's client.

use crate::{Finished, Namespace, Process, Talk, run, wait_until};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A machine whose stock WireGuard and stock SSH client know nothing of ours.
#[derive(Debug)]
pub struct Caller {
    folder: PathBuf,
    interface: String,
    namespace: Namespace,
    addresses: Vec<String>,
    _wireguard: Process,
}

/// What the caller's side of one cable is like.
#[derive(Debug)]
pub struct Cable<'a> {
    /// The namespace that the gateway is in.
    pub gateway: &'a Namespace,
    /// Where the gateway is dialled, on its loopback.
    pub endpoint: &'a str,
    /// Tells this caller's network from those of the world's other callers.
    pub number: usize,
}

impl Cable<'_> {
    /// A new machine at this cable's end, on the way to the gateway and without WireGuard.
    #[must_use]
    pub fn plug_in(&self) -> Namespace {
        let machine = Namespace::new();
        let number = self.number;
        let (gateway, here) = (format!("10.200.{number}.1/24"), format!("10.200.{number}.2/24"));
        let far_end = format!("caller{number}");
        self.gateway.join((&far_end, &[&gateway]), &machine, ("out", &[&here]));
        machine.ip(&["route", "add", self.endpoint, "via", &format!("10.200.{number}.1")]);
        machine
    }
}

impl Caller {
    /// Plugs a new machine in and starts WireGuard there, by `config`, a `wg-quick` file.
    #[must_use]
    pub fn plug_in(cable: &Cable<'_>, folder: &Path, config: &str, known_hosts: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let namespace = cable.plug_in();
        let interface = namespace.interface();
        let mut command = namespace.command("wireguard-go");
        command.args(["-f", &interface]);
        let wireguard = Process::spawn(command, &folder.join("wireguard-go.log"));
        let socket = format!("/var/run/wireguard/{interface}.sock");
        wait_until("wireguard-go answers", || Path::new(&socket).exists());
        std::fs::write(folder.join("known_hosts"), known_hosts).unwrap();
        let mut caller =
            Self { folder: folder.to_owned(), interface, namespace, addresses: Vec::new(), _wireguard: wireguard };
        caller.configure(config);
        caller
    }

    /// Does what `wg-quick` would with the file, inside the namespace.
    fn configure(&mut self, config: &str) {
        let of = |key: &'static str| {
            config
                .lines()
                .filter_map(|line| line.split_once('='))
                .filter(move |(name, _)| name.trim() == key)
                .flat_map(|(_, value)| value.split(','))
                .map(|value| value.trim().to_owned())
        };
        let only_wg: Vec<_> = config
            .lines()
            .filter(|line| !line.split('=').next().is_some_and(|key| QUICK.contains(&key.trim())))
            .collect();
        let file = self.folder.join("wg.conf");
        std::fs::write(&file, only_wg.join("\n")).unwrap();
        let mut wg = self.wg("setconf");
        wg.arg(&file);
        let _set = run(wg, b"").ok();
        let interface = self.interface.as_str();
        for address in of("Address") {
            self.namespace.ip(&["address", "add", &address, "dev", interface, "nodad"]);
            self.addresses.push(address.split('/').next().unwrap_or_default().to_owned());
        }
        let mtu = of("MTU").next().unwrap_or("1420".to_owned());
        self.namespace.ip(&["link", "set", interface, "mtu", &mtu, "up"]);
        for route in of("AllowedIPs") {
            self.namespace.ip(&["route", "replace", &route, "dev", interface]);
        }
        let resolver: String = of("DNS")
            .map(|entry| match entry.parse::<std::net::IpAddr>() {
                Ok(address) => format!("nameserver {address}\n"),
                Err(_) => format!("search {entry}\n"),
            })
            .collect();
        self.namespace.lay_over_etc("resolv.conf", &resolver);
    }

    /// The machine's tailnet addresses.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Where this machine keeps its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The machine's network.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The WireGuard interface.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// A command that will run on this machine.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.namespace.command(program);
        command.env("HOME", &self.folder).env_remove("SSH_AUTH_SOCK").env("TERM", "xterm-256color");
        command.env("LC_ALL", "C");
        command
    }

    /// The virtual IPv4 address of a target, as this machine's resolver has it.
    ///
    /// # Panics
    /// When the name does not resolve in time.
    #[must_use]
    pub fn resolve(&self, name: &str) -> std::net::IpAddr {
        let mut found = String::new();
        wait_until("the name resolves", || {
            let mut getent = self.command("getent");
            getent.args(["ahostsv4", name]);
            found = run(getent, b"").text();
            !found.is_empty()
        });
        found.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// `wg <verb> <interface>`.
    #[must_use]
    pub fn wg(&self, verb: &str) -> Command {
        let mut command = self.namespace.command("wg");
        command.args([verb, &self.interface]);
        command
    }

    /// What `wg show <interface> <field>` prints after the peer's key.
    #[must_use]
    pub fn wg_show(&self, field: &str) -> String {
        let mut command = self.wg("show");
        command.arg(field);
        run(command, b"").ok().trim().split_once('\t').map(|(_, fields)| fields.to_owned()).unwrap_or_default()
    }

    /// Bytes that the client has received from the gateway, handshakes included.
    #[must_use]
    pub fn received(&self) -> u64 {
        let transfer = self.wg_show("transfer");
        transfer.split('\t').next().and_then(|bytes| bytes.parse().ok()).expect("wg tells what was received")
    }

    /// A stock client of OpenSSH: no key, no agent, no questions; hosts are known by the certificate authority alone.
    #[must_use]
    pub fn client(&self, program: &str) -> Command {
        let mut command = self.command(program);
        command.args(["-F", "none"]);
        for option in CLIENT {
            command.args(["-o", option]);
        }
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.folder.join("known_hosts").display()));
        command
    }

    /// Runs `ssh <arguments>` to its end.
    #[track_caller]
    #[must_use]
    pub fn ssh(&self, arguments: &[&str]) -> Finished {
        self.ssh_with(arguments, b"")
    }

    /// Runs `ssh <arguments>` with `input` on its standard input.
    #[track_caller]
    #[must_use]
    pub fn ssh_with(&self, arguments: &[&str], input: &[u8]) -> Finished {
        let mut command = self.client("ssh");
        command.args(arguments);
        run(command, input)
    }

    /// Starts `ssh <arguments>`, to talk with what it runs.
    #[must_use]
    pub fn talk(&self, arguments: &[&str]) -> Talk {
        let mut command = self.client("ssh");
        command.args(arguments);
        Talk::start(command)
    }
}

/// A connection to `ubuntu@web1` that several clients share (`ControlMaster`). Its own command repeats what it is told.
#[derive(Debug)]
pub struct Shared {
    /// The one that holds it.
    pub master: Talk,
    socket: PathBuf,
}

impl Shared {
    /// Opens one.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[must_use]
    pub fn open(caller: &Caller) -> Self {
        let socket = caller.folder().join("mux");
        let mut master = caller.client("ssh");
        master.args(["-o", "ControlMaster=yes", "-S"]).arg(&socket).args(["ubuntu@web1", "echo master; cat"]);
        let master = Talk::start(master);
        master.expect("master");
        Self { master, socket }
    }

    /// Has a command that is `ssh`, or ends in that, go over it to web1.
    pub fn over(&self, command: &mut Command) {
        command.args(["-F", "none", "-S"]).arg(&self.socket).arg("web1");
    }
}

/// The keys of a `wg-quick` file that `wg` itself does not know.
const QUICK: [&str; 4] = ["Address", "DNS", "MTU", "Table"];

const CLIENT: [&str; 6] = [
    "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=none",
    "BatchMode=yes",
    "IdentityFile=none",
    "ControlPath=none",
    "ConnectTimeout=20",
];
