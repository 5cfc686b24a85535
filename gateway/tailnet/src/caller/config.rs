//! The device's file: what `sallyport device add` prints and stock WireGuard clients read (wg-quick(8)).

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fs, io};

use ipnet::IpNet;
use zeroize::Zeroizing;

use super::CallerError;
use crate::{DEFAULT_MTU, PresharedKey, PrivateKey, PublicKey};

/// A device and its one gateway.
#[derive(Debug, Clone)]
pub struct DeviceFile {
    /// `PrivateKey`.
    pub private_key: PrivateKey,
    /// `Address`.
    pub addresses: Vec<IpAddr>,
    /// `DNS`: the addresses among its values.
    pub dns: Vec<IpAddr>,
    /// `DNS`: the domains among its values.
    pub search: Vec<String>,
    /// `MTU`, in bytes.
    pub mtu: u16,
    /// `PublicKey` of the gateway.
    pub gateway: PublicKey,
    /// `PresharedKey`.
    pub preshared: Option<PresharedKey>,
    /// `AllowedIPs`.
    pub allowed: Vec<IpNet>,
    /// `Endpoint`, as written: a name or an address, and a port.
    pub endpoint: String,
    /// `PersistentKeepalive`, in seconds.
    pub keepalive: Option<u16>,
}

impl DeviceFile {
    /// Reads the file's text; it holds a secret, so it must be the person's own.
    ///
    /// # Errors
    /// When there is none, or others may read it.
    pub(super) fn read_text(path: &Path) -> Result<Zeroizing<String>, CallerError> {
        let wrong = |reason: String| CallerError::File { path: path.to_owned(), reason };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CallerError::NoFile(path.to_owned())),
            Err(error) => return Err(wrong(error.to_string())),
        };
        if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
            return Err(wrong(format!("others may read its private key: run `chmod 600 {}`", path.display())));
        }
        fs::read_to_string(path).map(Zeroizing::new).map_err(|error| wrong(error.to_string()))
    }

    /// Reads a file's text. What only `wg-quick` does (`PostUp`, `Table` and the like) is passed over.
    ///
    /// # Errors
    /// A sentence that names the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut draft = Draft::default();
        let mut section = String::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.trim().to_ascii_lowercase();
                if section == "peer" {
                    draft.peers += 1;
                }
            } else if !line.is_empty() {
                let (key, value) = line.split_once('=').ok_or(format!("line {number}: expected `Name = value`"))?;
                let key = key.trim().to_ascii_lowercase();
                draft.set(&section, &key, value.trim()).map_err(|reason| format!("line {number}: {reason}"))?;
            }
        }
        draft.finish()
    }
}

#[derive(Default)]
struct Draft {
    peers: u32,
    private_key: Option<PrivateKey>,
    addresses: Vec<IpAddr>,
    dns: Vec<IpAddr>,
    search: Vec<String>,
    mtu: Option<u16>,
    gateway: Option<PublicKey>,
    preshared: Option<PresharedKey>,
    allowed: Vec<IpNet>,
    endpoint: Option<String>,
    keepalive: Option<u16>,
}

impl Draft {
    fn set(&mut self, section: &str, key: &str, value: &str) -> Result<(), String> {
        let parts = || value.split(',').map(str::trim).filter(|part| !part.is_empty());
        match (section, key) {
            ("interface", "privatekey") => self.private_key = Some(value.parse().map_err(said)?),
            ("interface", "address") => {
                for part in parts() {
                    self.addresses.push(network(part)?.addr());
                }
            }
            ("interface", "dns") => {
                for part in parts() {
                    match part.parse() {
                        Ok(address) => self.dns.push(address),
                        Err(_) => self.search.push(part.to_owned()),
                    }
                }
            }
            ("interface", "mtu") => self.mtu = Some(value.parse().map_err(said)?),
            ("peer", "publickey") => self.gateway = Some(value.parse().map_err(said)?),
            ("peer", "presharedkey") => self.preshared = Some(value.parse().map_err(said)?),
            ("peer", "allowedips") => {
                for part in parts() {
                    self.allowed.push(network(part)?);
                }
            }
            ("peer", "endpoint") => self.endpoint = Some(value.to_owned()),
            ("peer", "persistentkeepalive") if value.eq_ignore_ascii_case("off") => self.keepalive = None,
            ("peer", "persistentkeepalive") => self.keepalive = Some(value.parse().map_err(said)?),
            ("interface" | "peer", _) => {}
            _ => return Err("this belongs under [Interface] or [Peer]".to_owned()),
        }
        Ok(())
    }

    fn finish(self) -> Result<DeviceFile, String> {
        if self.peers != 1 {
            return Err(format!("expected one [Peer], the gateway; it has {}", self.peers));
        }
        let missing = |what: &str| format!("{what} is missing: is this the file that `sallyport device add` printed?");
        if self.addresses.is_empty() {
            return Err(missing("Address"));
        }
        if self.allowed.is_empty() {
            return Err(missing("AllowedIPs"));
        }
        Ok(DeviceFile {
            private_key: self.private_key.ok_or_else(|| missing("PrivateKey"))?,
            addresses: self.addresses,
            dns: self.dns,
            search: self.search,
            mtu: self.mtu.unwrap_or(DEFAULT_MTU),
            gateway: self.gateway.ok_or_else(|| missing("PublicKey"))?,
            preshared: self.preshared,
            allowed: self.allowed,
            endpoint: self.endpoint.ok_or_else(|| missing("Endpoint"))?,
            keepalive: self.keepalive,
        })
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| format!("{text} is not an address such as 100.64.0.2/32"))
}

fn said(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# alice: a device of the tailnet corp.internal
[Interface]
PrivateKey = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=
Address = 100.64.0.2/32, fd12:3456:789a::6440:2/128
DNS = 100.64.0.1, fd12:3456:789a::6440:1, corp.internal
MTU = 1300

[Peer]
PublicKey = hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=
PresharedKey = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=
AllowedIPs = 100.64.0.1/32, 100.64.128.0/17, fd12:3456:789a::6440:8000/113
Endpoint = gateway.example.com:51820 # the office
PersistentKeepalive = 25
";

    #[test]
    fn reads_what_device_add_prints() {
        let file = DeviceFile::parse(FILE).unwrap();
        assert_eq!(
            file.addresses,
            ["100.64.0.2", "fd12:3456:789a::6440:2"].map(|text| text.parse::<IpAddr>().unwrap())
        );
        assert_eq!(file.dns, ["100.64.0.1", "fd12:3456:789a::6440:1"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(
            (file.search.as_slice(), file.mtu, file.keepalive),
            (&["corp.internal".to_owned()][..], 1300, Some(25))
        );
        assert_eq!((file.endpoint.as_str(), file.allowed.len()), ("gateway.example.com:51820", 3));
        assert_eq!(file.gateway, file.private_key.public());
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        for (change, to, expected) in [
            ("Address = 100", "Address = x100", "line 4: x100.64.0.2/32 is not an address such as 100.64.0.2/32"),
            ("MTU = 1300", "MTU", "line 6: expected `Name = value`"),
            ("[Peer]", "[Other]", "line 9: this belongs under [Interface] or [Peer]"),
            ("[Peer]\n", "[Peer]\n[Peer]\n", "expected one [Peer], the gateway; it has 2"),
            ("Endpoint", "Else", "Endpoint is missing: is this the file that `sallyport device add` printed?"),
        ] {
            assert_eq!(DeviceFile::parse(&FILE.replace(change, to)).unwrap_err(), expected);
        }
    }

    #[test]
    fn refuses_a_file_that_others_may_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.conf");
        fs::write(&path, FILE).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = DeviceFile::read_text(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(DeviceFile::read_text(&path).unwrap().as_str(), FILE);
    }
}
