//! What is written down of files, held against what is on the target's disk; and what a rule keeps from getting there.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

impl Stand {
    /// Takes a policy whose capability for ssh is `capability`.
    pub(super) fn allow(&self, capability: &str) {
        let policy = format!(
            r#"{{
                "tagOwners": {{ "tag:prod": ["alice@example.com"] }},
                "grants": [{{ "src": ["alice@example.com"], "dst": ["tag:prod"], "ip": ["tcp:22"],
                             "app": {{ "sallyport.dev/cap/ssh": [{capability}] }} }}],
                "ssh": [{{ "action": "accept", "src": ["alice@example.com"], "dst": ["tag:prod"], "users": ["root"] }}],
            }}"#
        );
        let Middle { world: worlds, device, target, .. } = &self.middle;
        let revision = worlds.borrow().revision + 1;
        worlds.send_replace(world(revision, &policy, &[device], &[target]));
    }

    /// Runs `sftp` with these commands.
    async fn sftp(&self, commands: &str) -> Output {
        std::fs::write(self.path("batch"), commands).unwrap();
        self.run("sftp", &["-b", &self.path("batch"), "web1"]).await
    }

    /// Waits until all sessions that have begun are over, in their recordings too; their events of these types.
    async fn events(&self, types: &[&str]) -> Vec<Value> {
        let waiting = async {
            loop {
                let timelines = self.timelines().await;
                let events: Vec<Value> = timelines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
                let begun = self.middle.runner.state.sessions(&Default::default()).await.unwrap().len();
                if begun > 0 && count("end") == begun {
                    return events.into_iter().filter(|e| types.contains(&e["type"].as_str().unwrap())).collect();
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.expect("the sessions did not end")
    }

    /// The files that went through: by path, in both directions, `result` and bytes.
    async fn files(&self) -> BTreeMap<(String, String), (String, u64)> {
        let row = |event: Value| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let path = if text("name").is_empty() { text("path") } else { text("name") };
            let bytes = event["read"].as_u64().unwrap() + event["written"].as_u64().unwrap();
            ((text("direction"), path), (text("result"), bytes))
        };
        self.events(&["file"]).await.into_iter().map(row).collect()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn holds(&self, name: &str, bytes: &[u8]) -> bool {
        std::fs::read(self.path(name)).is_ok_and(|found| found == bytes)
    }

    /// No output of a channel is in the recordings.
    async fn keeps_no_bytes(&self) {
        let find = format!("find {} -name 'channel-*'", self.path("recordings"));
        let found = Command::new("sh").args(["-c", &find]).output().await.unwrap();
        assert_eq!(text(&found.stdout), "");
    }
}

fn has(events: &[Value], wanted: &[(&str, &str)]) -> bool {
    events.iter().any(|event| wanted.iter().all(|(key, value)| event[*key].as_str() == Some(value)))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_sftp_is_in_the_record_as_it_is_on_disk() {
    let stand = Stand::new().await;
    let at = |name: &str| stand.path(name);
    let bytes = noise(3 << 20);
    stand.write("here", &bytes);
    stand.write("tree/a/one", b"1");
    stand.write("tree/two", b"22");
    stand.write("partial", &bytes[..1 << 20]);
    std::fs::create_dir(at("far")).unwrap();
    let far = at("far");
    let batch = format!(
        "put {here} {far}/up\nput -r {tree} {far}/tree\nget {far}/up {back}\nreget {far}/up {partial}\nls -l {far}\n\
         mkdir {far}/new\nrename {far}/up {far}/new/moved\nln {far}/new/moved {far}/hard\nln -s moved {far}/new/soft\n\
         chmod 600 {far}/new/moved\nrm {far}/tree/two\nrmdir {far}/tree/a\n-rm {far}/tree/a/one\n-get {far}/nowhere\n",
        here = at("here"),
        tree = at("tree"),
        back = at("back"),
        partial = at("partial"),
    );
    // The folder is not empty, so that removing it fails: a failure is in the record, too.
    let output = stand.sftp(&batch.replace("rmdir", "-rmdir")).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    for (name, expected) in [("far/hard", &bytes), ("far/new/moved", &bytes), ("back", &bytes), ("partial", &bytes)] {
        assert!(stand.holds(name, expected), "{name}");
    }
    let files = stand.files().await;
    for (direction, name, size) in [
        ("upload", "far/up", bytes.len()),
        ("upload", "far/tree/two", 2),
        ("upload", "far/tree/a/one", 1),
        ("download", "far/up", bytes.len()),
    ] {
        // The second download of the same file went on where the first megabyte ended.
        let size = if direction == "download" { size - (1 << 20) } else { size };
        let found = files.get(&(direction.to_owned(), at(name)));
        assert_eq!(found, Some(&("ok".to_owned(), size as u64)), "{direction} {name}: {files:?}");
    }
    let events = stand.events(&["file", "file_change", "file_looks"]).await;
    assert!(events.iter().any(|event| event["type"] == "file" && event["read"] == bytes.len()), "the whole download");
    for (action, path, to, result) in [
        ("mkdir", "far/new", "", "ok"),
        ("rename", "far/up", "far/new/moved", "ok"),
        ("link", "far/new/moved", "far/hard", "ok"),
        ("symlink", "far/new/soft", "moved", "ok"),
        ("attributes", "far/new/moved", "", "ok"),
        ("remove", "far/tree/two", "", "ok"),
        ("rmdir", "far/tree/a", "", "failed"),
        ("remove", "far/tree/a/one", "", "ok"),
    ] {
        let (path, to) = (at(path), if to == "moved" || to.is_empty() { to.to_owned() } else { at(to) });
        let mut wanted = vec![("action", action), ("path", &path), ("result", result)];
        if !to.is_empty() {
            wanted.push(("to", &to));
        }
        assert!(has(&events, &wanted), "{wanted:?}: {events:?}");
    }
    assert!(has(&events, &[("action", "attributes"), ("detail", "mode 0600")]), "{events:?}");
    assert!(has(&events, &[("type", "file_looks")]), "{events:?}");
    stand.keeps_no_bytes().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_of_scp_is_in_the_record_by_either_protocol() {
    for protocol in ["-s", "-O"] {
        let stand = Stand::new().await;
        let bytes = noise(2 << 20);
        stand.write("tree/big", &bytes);
        stand.write("tree/sub/a b", b"small");
        stand.write("tree/empty", b"");
        std::fs::create_dir(stand.path("far")).unwrap();
        let (tree, far) = (stand.path("tree"), format!("web1:{}", stand.path("far")));
        let there = format!("{far}/tree");
        for arguments in [[protocol, "-rp", &tree, &far], [protocol, "-rp", &there, &stand.path("back")]] {
            let output = stand.run("scp", &arguments).await;
            assert!(output.status.success(), "scp {protocol}: {}", text(&output.stderr));
        }
        let output = stand.run("scp", &[protocol, &format!("{far}/nowhere"), &tree]).await;
        assert!(!output.status.success());
        assert!(stand.holds("far/tree/big", &bytes) && stand.holds("back/sub/a b", b"small"), "scp {protocol}");
        let files = stand.files().await;
        for direction in ["upload", "download"] {
            for (name, size) in [("big", bytes.len()), ("sub/a b", 5), ("empty", 0)] {
                let found =
                    files.iter().find(|((way, path), _)| way == direction && path.ends_with(&format!("/{name}")));
                let found = found.map(|(_, found)| found);
                assert_eq!(
                    found,
                    Some(&("ok".to_owned(), size as u64)),
                    "scp {protocol} {direction} {name}: {files:?}"
                );
            }
        }
        stand.keeps_no_bytes().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_alone_let_nothing_onto_the_target() {
    let stand = Stand::new().await;
    let bytes = noise(300_000);
    let (here, far, there) = (stand.write("here", b"new"), stand.path("far"), stand.write("far/there", &bytes));
    stand.allow(r#"{ "sftp": { "download": true } }"#);
    let batch = format!(
        "-put {here} {far}/put\n-rm {there}\n-rename {there} {far}/moved\n-mkdir {far}/new\n-chmod 777 {there}\n\
         -ln -s {there} {far}/soft\n-ln {there} {far}/hard\nls {far}\nget {there} {back}\n",
        back = stand.path("back"),
    );
    let before = std::fs::metadata(&there).unwrap().permissions();
    let output = stand.sftp(&batch).await;
    assert!(output.status.success(), "it went on: {}", text(&output.stderr));
    assert!(text(&output.stderr).contains("uploading or changing files on web1 as root is not allowed"));
    assert!(stand.holds("back", &bytes) && stand.holds("far/there", &bytes));
    assert_eq!(std::fs::read_dir(&far).unwrap().count(), 1, "nothing came or went");
    assert_eq!(std::fs::metadata(&there).unwrap().permissions(), before);
    let refused = stand.events(&["refused"]).await;
    for what in ["open", "remove", "rename", "mkdir", "attributes", "symlink", "link"] {
        let what = format!("sftp {what} ");
        assert!(refused.iter().any(|event| event["what"].as_str().unwrap().starts_with(&what)), "{what}: {refused:?}");
    }

    let up = stand.run("scp", &["-O", &here, &format!("web1:{far}/put")]).await;
    assert!(!up.status.success());
    let refused = stand.events(&["refused"]).await;
    assert!(refused.iter().any(|event| event["what"] == format!("exec scp -t {far}/put")), "{refused:?}");
    std::fs::remove_file(stand.path("back")).unwrap();
    let down = stand.run("scp", &["-O", &format!("web1:{there}"), &stand.path("back")]).await;
    assert!(down.status.success() && stand.holds("back", &bytes), "{}", text(&down.stderr));
    assert_eq!(std::fs::read_dir(&far).unwrap().count(), 1);
    for command in [format!("scp -f {there}; touch {far}/x"), format!("cat > {far}/x"), "sh".to_owned()] {
        assert!(!stand.feed(&["web1", &command], b"x".to_vec()).await.status.success(), "{command}");
    }
    assert_eq!(std::fs::read_dir(&far).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_alone_let_nothing_off_the_target() {
    let stand = Stand::new().await;
    let bytes = noise(300_000);
    let (here, far, there) = (stand.write("here", &bytes), stand.path("far"), stand.write("far/there", b"secret"));
    stand.allow(r#"{ "sftp": { "upload": true } }"#);
    let batch = format!("-get {there} {back}\nput {here} {far}/put\nls {far}\n", back = stand.path("back"));
    let output = stand.sftp(&batch).await;
    assert!(output.status.success(), "it went on: {}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("downloading files on web1 as root is not allowed"),
        "{}",
        text(&output.stderr)
    );
    assert!(stand.holds("far/put", &bytes));
    assert!(!std::fs::read(stand.path("back")).is_ok_and(|found| !found.is_empty()));
    for protocol in ["-s", "-O"] {
        let down = stand.run("scp", &[protocol, &format!("web1:{there}"), &stand.path("back")]).await;
        assert!(!down.status.success(), "scp {protocol}");
        let up = stand.run("scp", &[protocol, &here, &format!("web1:{far}/scp{protocol}")]).await;
        assert!(up.status.success() && stand.holds(&format!("far/scp{protocol}"), &bytes), "{}", text(&up.stderr));
    }
    assert!(!std::fs::read(stand.path("back")).is_ok_and(|found| !found.is_empty()));
    let refused = stand.events(&["refused"]).await;
    for what in [format!("sftp open {there} (read)"), format!("exec scp -f {there}")] {
        let told =
            |event: &Value| event["what"] == what && event["why"].as_str().unwrap().starts_with("downloading files on");
        assert!(refused.iter().any(told), "{what}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_no_transfer_begins() {
    let stand = Stand::new().await;
    stand.allow(r#"{ "shell": {} }"#);
    let never = format!("web1:{}", stand.path("never"));
    for (program, arguments, what) in [
        ("sftp", vec!["-b/dev/null", "web1"], "subsystem sftp"),
        ("scp", vec!["/etc/hostname", &never], "subsystem sftp"),
        ("scp", vec!["-O", "/etc/hostname", &never], "exec scp -t"),
    ] {
        assert!(!stand.run(program, &arguments).await.status.success(), "{program}");
        let refused = stand.events(&["refused"]).await;
        let found = refused.iter().any(|event| event["what"].as_str().unwrap().starts_with(what));
        assert!(found, "{what}: {refused:?}");
    }
    assert!(!Path::new(&stand.path("never")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_client_leaves_is_cut_off() {
    for protocol in ["-s", "-O"] {
        let stand = Stand::new().await;
        let big = stand.path("big");
        std::fs::File::create(&big).unwrap().set_len(4 << 30).unwrap();
        let to = format!("web1:{}", stand.path("there"));
        // Slow enough to be killed in the middle.
        let mut scp = stand.client("scp", &[protocol, "-l", "80000", &big, &to]).spawn().unwrap();
        let begun = async {
            while !std::fs::metadata(stand.path("there")).is_ok_and(|there| there.len() > 1 << 20) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(60), begun).await.expect("it did not begin");
        scp.kill().await.unwrap();
        let events = stand.events(&["file"]).await;
        let [file] = &events[..] else { panic!("{events:?}") };
        assert_eq!((file["direction"].as_str(), file["result"].as_str()), (Some("upload"), Some("cut_off")), "{file}");
        let count = |key: &str| file[key].as_u64().unwrap_or_default();
        let there = std::fs::metadata(stand.path("there")).unwrap().len();
        let (confirmed, sent) = (count("written"), count("written") + count("unconfirmed"));
        assert!(confirmed <= there && there <= sent, "{there} on disk, {file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_target_leaves_is_cut_off() {
    for protocol in ["-s", "-O"] {
        let stand = Stand::new().await;
        let big = stand.path("big");
        std::fs::File::create(&big).unwrap().set_len(4 << 30).unwrap();
        let from = format!("web1:{big}");
        let mut scp = stand.client("scp", &[protocol, "-l", "80000", &from, &stand.path("back")]).spawn().unwrap();
        let begun = async {
            while !std::fs::metadata(stand.path("back")).is_ok_and(|back| back.len() > 1 << 20) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(60), begun).await.expect("it did not begin");
        kill_children(stand.sshd.id().unwrap());
        timeout(Duration::from_secs(60), scp.wait()).await.expect("it hung").unwrap();
        let events = stand.events(&["file"]).await;
        let [file] = &events[..] else { panic!("{events:?}") };
        assert_eq!(
            (file["direction"].as_str(), file["result"].as_str()),
            (Some("download"), Some("cut_off")),
            "{file}"
        );
        let back = std::fs::metadata(stand.path("back")).unwrap().len();
        assert!(file["read"].as_u64().unwrap() >= back && back > 0, "{back} on disk, {file}");
    }
}

/// Kills the processes below one, and not itself.
fn kill_children(parent: u32) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let above =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().nth(1).and_then(|id| id.parse().ok());
        if above == Some(parent) {
            let id: u32 = entry.file_name().to_string_lossy().parse().unwrap();
            kill_children(id);
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(i32::try_from(id).unwrap()),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

/// Runs a script of AsyncSSH or paramiko with the stand's port in `sys.argv[1]` and its folder in `sys.argv[2]`.
async fn python(stand: &Stand, script: &str) -> Option<Output> {
    let module = if script.contains("paramiko") { "import paramiko" } else { "import asyncssh" };
    let found = Command::new("/usr/bin/python3").args(["-c", module]).stderr(Stdio::null()).status().await;
    if !found.is_ok_and(|status| status.success()) {
        #[expect(clippy::print_stderr, reason = "a peer that cannot be had is never passed over in silence")]
        {
            eprintln!("SKIPPED: {module} fails: install it with build/setup");
        }
        return None;
    }
    let config = std::fs::read_to_string(stand.path("ssh_config")).unwrap();
    let port = config.lines().find_map(|line| line.strip_prefix("Port ")).unwrap();
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", script, port, &stand.path("")]).kill_on_drop(true);
    Some(timeout(Duration::from_secs(120), command.output()).await.expect("it hung").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn random_writes_and_parallel_requests_are_counted_as_they_land() {
    let stand = Stand::new().await;
    let script = r#"
import asyncio, asyncssh, random, sys
async def main():
    async with asyncssh.connect("127.0.0.1", int(sys.argv[1]), username="root", known_hosts=None, client_keys=None) as ssh:
        async with ssh.start_sftp_client() as sftp:
            at = sys.argv[2]
            async def scattered(number):
                blocks = list(range(64)); random.Random(number).shuffle(blocks)
                async with sftp.open(f"{at}/scattered{number}", "w+b") as f:
                    await asyncio.gather(*(f.write(bytes([b]) * 4096, b * 4096) for b in blocks))
                    await f.truncate(200000)
                    return await f.read(1000, 4096 * 3)
            results = await asyncio.gather(*(scattered(n) for n in range(8)))
            assert all(r == b"\x03" * 1000 for r in results), results
            async with sftp.open(f"{at}/appended", "ab") as f:
                for n in range(10): await f.write(b"line\n")
            await sftp.posix_rename(f"{at}/appended", f"{at}/scattered7")
asyncio.run(main())
"#;
    let Some(output) = python(&stand, script).await else { return };
    assert!(output.status.success(), "{}", text(&output.stderr));
    for number in 0..7 {
        let on_disk = std::fs::read(stand.path(&format!("scattered{number}"))).unwrap();
        assert!(on_disk.len() == 200_000 && on_disk.iter().enumerate().all(|(n, b)| n / 4096 == usize::from(*b)));
    }
    assert!(stand.holds("scattered7", &b"line\n".repeat(10)));
    let events = stand.events(&["file", "file_change"]).await;
    let files: Vec<_> = events.iter().filter(|event| event["type"] == "file").collect();
    assert_eq!(files.len(), 9, "{files:?}");
    for file in files.iter().filter(|file| file["path"].as_str().unwrap().contains("scattered")) {
        assert_eq!(
            (&file["written"], &file["read"], &file["direction"]),
            (&(64 * 4096).into(), &1000.into(), &"both".into())
        );
    }
    let truncated = |event: &&Value| event["action"] == "attributes" && event["detail"] == "size 200000";
    assert_eq!(events.iter().filter(truncated).count(), 8, "{events:?}");
    assert!(has(&events, &[("action", "rename"), ("result", "ok")]), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_a_whole_file_at_once_gets_it() {
    let stand = Stand::new().await;
    let bytes = noise(40 << 20);
    stand.write("big", &bytes);
    // Requests of 1 kB each: 40,000 at once, more than may be under way.
    let script = r#"
import paramiko, socket, sys
transport = paramiko.Transport(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
transport.start_client()
transport.auth_none("root")
sftp = paramiko.SFTPClient.from_transport(transport)
paramiko.sftp_file.SFTPFile.MAX_REQUEST_SIZE = 1024
sftp.get(sys.argv[2] + "/big", sys.argv[2] + "/back")
transport.close()
"#;
    let Some(output) = python(&stand, script).await else { return };
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(stand.holds("back", &bytes));
    let files = stand.files().await;
    let [(result, read)] = files.values().collect::<Vec<_>>()[..] else { panic!("{files:?}") };
    // Where answers overtake its requests, paramiko takes them for all of it, and reads the rest of the file once more.
    let once = bytes.len() as u64;
    assert!(result == "ok" && (once..2 * once).contains(read), "{files:?}");
}
