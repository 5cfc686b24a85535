//! `sallyport export`: what is written where, and what is left where it fails.

use super::*;

/// Records a terminal that printed this, under the desk's configuration.
fn recorded(desk: &Desk, printed: &[String]) -> (SessionId, PathBuf) {
    use sallyport_recorder::{Caller, End, Header, Outcome, PolicyStamp, Signer, Store, Target, TerminalHeader};
    let config = Config::load(&desk.path("sallyport.toml"), None).unwrap();
    let started: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    let id = SessionId::new(started);
    let header = Header {
        id,
        protocol: "ssh".into(),
        caller: Caller::default(),
        target: Target { name: "web1".into(), address: "10.0.3.7:22".into() },
        policy: PolicyStamp { revision: "0123456789ab".into(), rules: Vec::new() },
        gateway: "gateway".into(),
        started,
    };
    let record = async {
        let store = Store::open(&config.state.recordings).unwrap();
        let folder = store.folder(&header);
        let signer = Arc::new(Signer::new(ed25519_dalek::SigningKey::from_bytes(&[7; 32])));
        let recording = store.create(header, signer).await.unwrap();
        let size = TerminalHeader { width: 80, height: 24, ..TerminalHeader::default() };
        let terminal = recording.terminal(0, size).await.unwrap();
        for text in printed {
            terminal.output(&bytes::Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
        }
        recording.close(End { outcome: Outcome::Completed, reason: "done".into(), at: started }).await.unwrap();
        folder
    };
    (id, tokio::runtime::Runtime::new().unwrap().block_on(record))
}

/// What lies in a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn an_export_takes_the_place_of_a_file_or_a_link_and_is_private() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let desk = Desk::begun();
    let (id, _) = recorded(&desk, &["hello there\r\n".to_owned()]);
    let folder = desk.path("exports");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(desk.path("victim"), "mine").unwrap();
    symlink(desk.path("victim"), folder.join("link")).unwrap();
    symlink("nowhere", folder.join("dangling")).unwrap();
    symlink("/dev/null", folder.join("device")).unwrap();
    symlink("/proc/self/fd/2", folder.join("descriptor")).unwrap();
    std::fs::write(folder.join("old"), "x".repeat(10_000)).unwrap();
    std::fs::set_permissions(folder.join("old"), std::fs::Permissions::from_mode(0o644)).unwrap();
    for name in ["new", "old", "link", "dangling", "device", "descriptor"] {
        let path = folder.join(name);
        desk.run(&format!("export {id} -o {}", path.display())).ended.unwrap();
        let metadata = path.symlink_metadata().unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o777 == 0o600, "{name}: {metadata:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "hello there\n", "{name}");
    }
    assert_eq!(std::fs::read_to_string(desk.path("victim")).unwrap(), "mine");
    assert_eq!(names(&folder).len(), 6);
}

#[test]
fn an_export_that_fails_midway_leaves_the_former_file_and_no_litter() {
    let desk = Desk::begun();
    // Lines that do not compress, so that some are written before the broken place is read.
    let line = |n: u128| format!("{:032x}\r\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    let printed: Vec<String> = (0..400).map(|part| (0..100).map(|n| line(part * 100 + n)).collect()).collect();
    let (id, recording) = recorded(&desk, &printed);
    let cast = recording.join("terminal-0.cast.zst");
    let mut bytes = std::fs::read(&cast).unwrap();
    let late = bytes.len() * 3 / 4;
    bytes.iter_mut().skip(late).take(64).for_each(|byte| *byte ^= 0x55);
    std::fs::write(&cast, bytes).unwrap();
    let folder = desk.path("exports");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("old"), "mine").unwrap();
    let printed = desk.run(&format!("export {id} --format cast"));
    assert!(printed.ended.is_err() && !printed.results.is_empty(), "the recording breaks midway");
    for name in ["old", "new"] {
        desk.run(&format!("export {id} --format cast -o {}", folder.join(name).display())).ended.unwrap_err();
    }
    assert_eq!(std::fs::read_to_string(folder.join("old")).unwrap(), "mine");
    assert_eq!(names(&folder), ["old"]);
}

#[test]
fn an_export_is_written_to_pipes_and_devices_as_they_are() {
    use std::os::unix::fs::OpenOptionsExt as _;
    let desk = Desk::begun();
    let (id, _) = recorded(&desk, &["hello there\r\n".to_owned()]);
    let fifo = desk.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let nonblock = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut reader = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(&fifo).unwrap();
    desk.run(&format!("export {id} -o {}", fifo.display())).ended.unwrap();
    assert_eq!(std::io::read_to_string(&mut reader).unwrap(), "hello there\n");
    // As /dev/stdout: a link to one of the process's own descriptors.
    let file = std::fs::File::create_new(desk.path("descriptor")).unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
    for path in [format!("/dev/fd/{descriptor}"), format!("/proc/self/fd/{descriptor}")] {
        file.set_len(0).unwrap();
        desk.run(&format!("export {id} -o {path}")).ended.unwrap();
        assert_eq!(std::fs::read_to_string(desk.path("descriptor")).unwrap(), "hello there\n", "{path}");
    }
    let (code, error) = desk.run(&format!("export {id} -o /dev/full")).error();
    assert!(code == COULD_NOT && error.contains("No space left"), "{error}");
}
