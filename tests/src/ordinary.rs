//! A caller's side for an ordinary user: no root, no WireGuard on the machine, `sallyport shell` and `sallyport proxy`.

use e2e::{Finished, Namespace, PERSON, World, run, wait_until};
use std::path::PathBuf;
use std::process::Command;

/// An ordinary user on a machine without WireGuard, with the file of an enrolled device.
struct Person<'a> {
    world: &'a World,
    machine: Namespace,
    home: PathBuf,
}

impl<'a> Person<'a> {
    fn new(world: &'a World) -> Self {
        let machine = world.bare_machine();
        let home = world.folder().join("home/person");
        let file = world.sallyport(&["device", "add", "--user", "alice@example.com", "--name", "laptop"]).ok();
        let settings = home.join(".config/sallyport");
        std::fs::create_dir_all(&settings).unwrap();
        std::fs::write(settings.join("device.conf"), file).unwrap();
        std::fs::create_dir(home.join(".ssh")).unwrap();
        std::fs::write(home.join(".ssh/known_hosts"), world.known_hosts()).unwrap();
        let _owned = run(
            {
                let mut chown = Command::new("chown");
                chown.args(["-R", &PERSON.to_string()]).arg(&home);
                chown
            },
            b"",
        )
        .ok();
        let only_theirs = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(settings.join("device.conf"), only_theirs).unwrap();
        Self { world, machine, home }
    }

    /// Runs a program as the person, at home.
    fn run(&self, program: &str, arguments: &[&str]) -> Finished {
        let mut command = self.machine.command("setpriv");
        command.arg(format!("--reuid={PERSON}")).arg(format!("--regid={PERSON}"));
        command.args(["--clear-groups", "--no-new-privs", program]).args(arguments);
        command
            .env("HOME", &self.home)
            .env("PATH", "/usr/bin:/bin")
            .env("USER", "person")
            .env("TERM", "dumb")
            .env_remove("SSH_AUTH_SOCK");
        command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_CONFIG_HOME").current_dir(&self.home);
        run(command, b"")
    }

    /// The same where no namespace can be made.
    fn run_confined(&self, program: &str, arguments: &[&str]) -> Finished {
        let words = ["--map-root-user", "sh", "-c", e2e::CONFINE, program];
        self.run("unshare", &[&words, arguments].concat())
    }

    fn sallyport(&self, arguments: &[&str]) -> Finished {
        self.run(self.world.binary_for_everyone().to_str().unwrap(), arguments)
    }
}

#[test]
fn shell_lets_stock_ssh_reach_the_tailnet_by_name_as_the_person_themselves() {
    if !e2e::has_namespaces_for_everyone() {
        return;
    }
    let world = World::new();
    let person = Person::new(&world);
    let here =
        person.sallyport(&["shell", "--", "sh", "-c", "whoami; echo $HOME; id -u; echo mine > note; cat note"]).ok();
    assert_eq!(here, format!("person\n{}\n{PERSON}\nmine\n", person.home.display()));
    assert!(person.home.join("note").exists(), "home is the real one");
    for family in ["-4", "-6"] {
        let there = person.sallyport(&["shell", "--", "ssh", "-o", "BatchMode=yes", family, "ubuntu@web1", "id -un"]);
        assert_eq!(there.ok(), "ubuntu\n");
    }
    assert_eq!(person.sallyport(&["shell", "--", "sh", "-c", "exit 7"]).code, 7, "the command's own exit code");
    assert_eq!(person.sallyport(&["shell", "--", "no-such-command"]).code, 127);
}

#[test]
fn proxy_serves_as_a_proxy_command() {
    let world = World::new();
    let person = Person::new(&world);
    let proxy = format!("ProxyCommand={} proxy %h:%p", world.binary_for_everyone().display());
    let there = person
        .run("ssh", &["-o", "BatchMode=yes", "-o", &proxy, "ubuntu@web1", "id -un; head -c 3000000 /dev/zero | wc -c"]);
    assert_eq!(there.ok(), "ubuntu\n3000000\n");
}

#[test]
fn proxy_needs_no_namespace_and_shell_says_what_it_lacks() {
    if !e2e::has_namespaces_for_everyone() {
        return;
    }
    let world = World::new();
    let person = Person::new(&world);
    let binary = world.binary_for_everyone().display().to_string();
    let proxy = format!("ProxyCommand={binary} proxy %h:%p");
    // ssh goes by the number that it has inside, and would look for root's files.
    let known = format!("UserKnownHostsFile={}", person.home.join(".ssh/known_hosts").display());
    let options =
        ["-F", "none", "-o", "BatchMode=yes", "-o", &known, "-o", &proxy, "-o", "HostKeyAlias=web1", "-l", "ubuntu"];
    let ssh = |host: &str, command: &str| person.run_confined("ssh", &[&options[..], &[host, command]].concat());
    for host in ["web1", "web1.corp.internal", "WEB1"] {
        assert_eq!(ssh(host, "id -un; head -c 3000000 /dev/zero | wc -c").ok(), "ubuntu\n3000000\n", "{host}");
    }
    let together = ["-c", "for n in 1 2 3 4; do \"$@\" & done; wait", "sh", "ssh"];
    let many = [&together[..], &options[..], &["web1", "head -c 2000000 /dev/zero"]].concat();
    assert_eq!(person.run_confined("sh", &many).ok().len(), 8_000_000);
    let upwards = ["-c", "head -c 5000000 /dev/zero | \"$@\"", "sh", "ssh"];
    let upload = [&upwards[..], &options[..], &["web1", "wc -c"]].concat();
    assert_eq!(person.run_confined("sh", &upload).ok().trim(), "5000000");
    let nowhere = person.run_confined(&binary, &["proxy", "nowhere:22"]).failed();
    assert!(nowhere.contains("the tailnet has no nowhere"), "{nowhere}");
    let closed = person.run_confined(&binary, &["proxy", "web1:23"]).failed();
    assert!(closed.contains("web1, port 23, does not answer"), "{closed}");
    let shell = person.run_confined(&binary, &["shell", "--", "true"]);
    assert_eq!(shell.code, 125);
    assert!(
        shell.stderr.contains("namespace") && shell.stderr.contains("sallyport proxy HOST:PORT"),
        "{}",
        shell.stderr
    );
    // The tunnel of somebody who is not confined serves whoever is: it has a namespace, which they could not enter.
    let place = person.home.join(".cache/sallyport");
    let tunnels = || {
        let places = std::fs::read_dir(&place).unwrap().flatten();
        places.filter(|one| one.path().join("socket").exists()).count()
    };
    wait_until("the tunnel without a namespace has left", || tunnels() == 0);
    assert_eq!(person.sallyport(&["shell", "--", "true"]).code, 0);
    assert_eq!(ssh("web1", "id -un").ok(), "ubuntu\n");
}
