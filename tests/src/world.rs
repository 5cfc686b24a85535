//! One world: a namespace of hosts with an sshd (`web1`) and the gateway, and callers plugged in by cables.

use crate::caller::Cable;
use crate::{Caller, Finished, Namespace, Process, Sshd, run, wait_until};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What a test wants different from the usual world.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The policy file.
    pub policy: String,
    /// More of `[tailnet]`.
    pub tailnet: String,
    /// More of `sallyport.toml`: other targets.
    pub targets: String,
    /// How the gateway logs in to `web1`.
    pub login: String,
    /// More of web1's sshd_config.
    pub sshd: String,
    /// Who runs the gateway.
    pub user: u32,
    /// Whether the gateway is denied namespaces, as in a strict container.
    pub confined: bool,
    /// Where recordings go; in the state folder when empty.
    pub recordings: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: POLICY.to_owned(),
            tailnet: String::new(),
            targets: String::new(),
            login: r#""certificate""#.to_owned(),
            sshd: String::new(),
            user: 0,
            confined: false,
            recordings: String::new(),
        }
    }
}

/// A running gateway with a target behind it. Everything is gone when it is dropped.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: the gateway before the namespace that it runs in, the folder last.
    gateway: Option<Process>,
    /// The target `web1`, with the accounts `ubuntu` and `deploy`.
    pub web1: Sshd,
    hosts: Namespace,
    setup: Setup,
    binary: PathBuf,
    folder: TempDir,
    callers: Cell<usize>,
}

impl World {
    /// The usual world: alice may be `ubuntu` on `web1`, everyone else nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::start(Setup::default())
    }

    /// A world of this setup, with its gateway up.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let mut world = Self::build(setup);
        world.up();
        let ca = world.sallyport(&["target", "ca"]).ok();
        world.web1.trust(&ca);
        world
    }

    /// A world of this setup whose gateway was not started.
    #[must_use]
    pub fn build(setup: Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("sallyport-test-").tempdir().unwrap();
        // Other accounts have to reach their homes below.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let hosts = Namespace::new();
        hosts.add_accounts(&folder.path().join("home"), &ACCOUNTS);
        hosts.ip(&["address", "add", &format!("{ENDPOINT}/32"), "dev", "lo"]);
        let web1 = Sshd::start(&hosts, &folder.path().join("web1"), (WEB1, 22).into(), &setup.sshd);
        let binary = match setup.user {
            0 => sallyport_binary(),
            // The build folder may be out of this user's sight.
            _ => folder.path().join("sallyport"),
        };
        let world = Self { gateway: None, web1, hosts, setup, binary, folder, callers: Cell::new(0) };
        let _copy = world.binary_for_everyone();
        let operator = world.operator();
        std::fs::create_dir(&operator).unwrap();
        std::os::unix::fs::chown(&operator, Some(world.setup.user), Some(world.setup.user)).unwrap();
        world.write_policy(&world.setup.policy);
        world.write_config();
        world
    }

    fn write_config(&self) {
        let Setup { tailnet, targets, login, recordings, .. } = &self.setup;
        let recordings = match recordings.as_str() {
            "" => String::new(),
            folder => format!("[state]\nrecordings = \"file:{folder}\"\n"),
        };
        let config = format!(
            "[tailnet]\ndomain = \"corp.internal\"\nendpoint = \"{ENDPOINT}:51820\"\n{tailnet}\n{recordings}\
             [[target]]\nname = \"web1\"\ntags = [\"tag:prod\"]\n\
             ssh = {{ address = \"{}\", host_key = \"{}\", login = {login} }}\n{targets}\n",
            self.web1.address(),
            self.web1.host_key(),
        );
        std::fs::write(self.config(), config).unwrap();
    }

    /// Puts another policy file in place.
    pub fn write_policy(&self, policy: &str) {
        std::fs::write(self.operator().join("policy.hujson"), policy).unwrap();
    }

    /// Starts the gateway and waits until it is ready.
    pub fn up(&mut self) {
        self.launch();
        let gateway = self.gateway.as_mut().unwrap();
        wait_until("the gateway is ready", || {
            assert!(gateway.is_running(), "the gateway ended: {}", gateway.printed());
            gateway.printed().contains(READY)
        });
    }

    /// Starts the gateway without waiting for it.
    pub fn launch(&mut self) {
        let log = self.folder.path().join("gateway.log");
        let _earlier = std::fs::remove_file(&log);
        let command = if self.setup.confined { self.confined(&["up"]) } else { self.command(&["up"]) };
        self.gateway = Some(Process::spawn(command, &log));
    }

    /// Runs `sallyport up` in the foreground to its end, for a gateway that must refuse to start.
    #[track_caller]
    #[must_use]
    pub fn up_fails(&self) -> String {
        run(self.command(&["up"]), b"").failed()
    }

    /// Gives `web1` another host key, as a machine that took over its address would have.
    pub fn change_host_key_of_web1(&mut self) {
        self.web1.change_host_key(&self.hosts);
    }

    /// The gateway's process.
    #[must_use]
    pub fn gateway(&self) -> &Process {
        self.gateway.as_ref().expect("the gateway was started")
    }

    /// Sends the gateway a signal and waits for its end.
    pub fn stop(&mut self, signal: nix::sys::signal::Signal) {
        let mut gateway = self.gateway.take().expect("the gateway was started");
        gateway.signal(signal);
        gateway.wait();
    }

    /// Kills the gateway with SIGKILL, but not before it has written down where each device is: that takes it a second.
    pub fn kill_once_it_knows_its_devices(&mut self) {
        wait_until("the gateway knows where each device is", || {
            !self.sallyport(&["device", "ls", "--json"]).ok().contains(r#""endpoint": null"#)
        });
        self.stop(nix::sys::signal::Signal::SIGKILL);
    }

    /// Waits until a session is in the list that ended so.
    pub fn wait_for_outcome(&self, outcome: &str) {
        wait_until("the session is in the list, ended", || {
            !self.sallyport(&["sessions", "ls", "--json", "--outcome", outcome]).ok().contains("[]")
        });
    }

    /// Waits until no session is going on: all that was recorded is in its place then.
    pub fn wait_for_every_end(&self) {
        wait_until("every session has ended", || {
            self.sallyport(&["sessions", "ls", "--json", "--outcome", "live"]).ok().trim() == "[]"
        });
    }

    /// A `sallyport` command on the gateway's machine, as the gateway's user.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.setup.user {
            0 => self.hosts.command(&self.binary),
            user => {
                let mut command = self.hosts.command("setpriv");
                command.arg(format!("--reuid={user}")).arg(format!("--regid={user}"));
                command.args(["--clear-groups", "--no-new-privs"]).arg(&self.binary);
                command
            }
        };
        command.env("SALLYPORT_CONFIG", self.config()).args(arguments).current_dir(self.operator());
        command
    }

    /// The same where no namespace can be made: inside a user namespace whose limits of both kinds are zero.
    fn confined(&self, arguments: &[&str]) -> Command {
        let mut command = self.hosts.command("setpriv");
        let user = self.setup.user;
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups");
        command.args(["unshare", "--map-root-user", "sh", "-c", CONFINE]).arg(&self.binary).args(arguments);
        command.env("SALLYPORT_CONFIG", self.config()).current_dir(self.operator());
        command
    }

    /// Runs a `sallyport` command on the gateway's machine.
    #[track_caller]
    #[must_use]
    pub fn sallyport(&self, arguments: &[&str]) -> Finished {
        run(self.command(arguments), b"")
    }

    /// The same with the command's own clock moved, as by `+20s`: it is everybody else's that looks wrong from there.
    #[track_caller]
    #[must_use]
    pub fn sallyport_at(&self, moved: &str, arguments: &[&str]) -> Finished {
        let mut faked = self.hosts.command("faketime");
        faked.args(["-f", moved]).arg(&self.binary).args(arguments).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        faked.env("SALLYPORT_CONFIG", self.config()).current_dir(self.operator());
        run(faked, b"")
    }

    /// Enrols a device of `user` and plugs it in, with stock WireGuard.
    #[must_use]
    pub fn caller(&self, user: &str, device: &str) -> Caller {
        let config = self.sallyport(&["device", "add", "--user", user, "--name", device]).ok();
        self.plug_in(device, &config)
    }

    /// Plugs in a machine by the `wg-quick` file of its device.
    #[must_use]
    pub fn plug_in(&self, device: &str, config: &str) -> Caller {
        let number = self.callers.get();
        self.callers.set(number + 1);
        let cable = Cable { gateway: &self.hosts, endpoint: ENDPOINT, number };
        Caller::plug_in(&cable, &self.folder.path().join(device), config, &self.known_hosts())
    }

    /// A machine on the way to the gateway that has no WireGuard, with an ordinary user `person`.
    #[must_use]
    pub fn bare_machine(&self) -> Namespace {
        let number = self.callers.get();
        self.callers.set(number + 1);
        let machine = Cable { gateway: &self.hosts, endpoint: ENDPOINT, number }.plug_in();
        machine.add_accounts(&self.folder.path().join("home"), &ACCOUNTS);
        machine
    }

    /// The binary, where every user can run it.
    #[must_use]
    pub fn binary_for_everyone(&self) -> PathBuf {
        let copy = self.folder.path().join("sallyport");
        if !copy.exists() {
            let _bytes = std::fs::copy(sallyport_binary(), &copy).unwrap();
        }
        copy
    }

    /// The line that a caller puts into known_hosts.
    #[must_use]
    pub fn known_hosts(&self) -> String {
        let printed = self.sallyport(&["ls"]).ok();
        let line = printed.lines().find(|line| line.starts_with("@cert-authority")).expect("the line of the authority");
        format!("{line}\n")
    }

    /// The namespace of the gateway and its targets.
    #[must_use]
    pub fn hosts(&self) -> &Namespace {
        &self.hosts
    }

    /// The operator's folder: configuration, policy and state.
    #[must_use]
    pub fn operator(&self) -> PathBuf {
        self.folder.path().join("operator")
    }

    /// A folder that lives as long as the world.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> PathBuf {
        self.operator().join("sallyport.toml")
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// The binary that cargo built beside the test's own.
fn sallyport_binary() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let built = here.ancestors().map(|folder| folder.join("sallyport")).find(|path| path.is_file());
    built.expect("the binary is built first: run `cargo build --workspace --bins`, or `make test`")
}

/// Where callers dial the gateway: an address of its namespace that every cable leads to.
const ENDPOINT: &str = "10.200.255.1";
const WEB1: [u8; 4] = [127, 0, 0, 2];
/// What the gateway prints when it serves.
const READY: &str = "the gateway is up";
/// Accounts of the hosts' namespace alone. The last one is an ordinary person's.
const ACCOUNTS: [(&str, u32); 3] = [("ubuntu", 20001), ("deploy", 20002), ("person", PERSON)];
/// The ordinary user of [`Setup::user`].
pub const PERSON: u32 = 20003;

/// A script of `sh -c` inside a user namespace: becomes its arguments once no namespace can be made any more (namespaces(7),
/// /proc/sys/user).
pub const CONFINE: &str =
    r#"echo 0 > /proc/sys/user/max_net_namespaces && echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" "$@""#;

/// Alice reaches production as `ubuntu`; Bob passes the network rule, but has no account.
pub const POLICY: &str = r#"{
  "groups":    { "group:sre": ["alice@example.com"], "group:staff": ["alice@example.com", "bob@example.com"] },
  "tagOwners": { "tag:prod": ["group:sre"] },
  "grants":    [ { "src": ["group:staff"], "dst": ["tag:prod"], "ip": ["tcp:22"] } ],
  "ssh": [
    { "action": "accept", "src": ["group:sre"], "dst": ["tag:prod"], "users": ["ubuntu"], "acceptEnv": ["LANG", "LC_*"] },
  ],
}
"#;
