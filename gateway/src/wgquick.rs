//! The file that a device's WireGuard client reads (wg-quick(8)), and its picture for a phone's camera.

use std::fmt;
use std::net::IpAddr;

use sallyport_tailnet::{PresharedKey, PrivateKey, PublicKey};

use crate::addresses::Plan;

/// A device's side of the tunnel.
#[derive(Debug)]
pub struct WgQuick<'a> {
    /// The device's name, for the comment at the top.
    pub name: &'a str,
    /// Its private key; none when the device has made its own.
    pub private_key: Option<&'a PrivateKey>,
    /// Its addresses.
    pub addresses: &'a [IpAddr],
    /// The tailnet's addresses.
    pub plan: Plan,
    /// The domain that names are looked up in.
    pub domain: &'a str,
    /// The largest packet inside the tunnel, in bytes.
    pub mtu: u16,
    /// The gateway's public key.
    pub gateway_key: PublicKey,
    /// The key that both sides mix in.
    pub preshared: &'a PresharedKey,
    /// What the device dials.
    pub endpoint: &'a str,
}

impl fmt::Display for WgQuick<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (gateway4, gateway6) = self.plan.gateway();
        let (services4, services6) = self.plan.services();
        writeln!(f, "# {}: a device of the tailnet {}", self.name, self.domain)?;
        writeln!(f, "[Interface]")?;
        match self.private_key {
            Some(key) => writeln!(f, "PrivateKey = {}", key.expose().as_str())?,
            None => writeln!(f, "# PrivateKey = the private half of the key that you gave")?,
        }
        let addresses: Vec<String> = self.addresses.iter().map(|address| host(*address)).collect();
        writeln!(f, "Address = {}", addresses.join(", "))?;
        writeln!(f, "DNS = {gateway4}, {gateway6}, {}", self.domain)?;
        writeln!(f, "MTU = {}", self.mtu)?;
        writeln!(f, "\n[Peer]")?;
        writeln!(f, "PublicKey = {}", self.gateway_key)?;
        writeln!(f, "PresharedKey = {}", self.preshared.expose().as_str())?;
        writeln!(f, "AllowedIPs = {gateway4}/32, {gateway6}/128, {services4}, {services6}")?;
        writeln!(f, "Endpoint = {}", self.endpoint)?;
        writeln!(f, "PersistentKeepalive = {KEEPALIVE}")
    }
}

fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// `text` as a QR code of Unicode half blocks, dark on light as terminals show it.
///
/// # Errors
/// When the text is too long for one.
pub fn qr_code(text: &str) -> Result<String, qrcode::types::QrError> {
    use qrcode::render::unicode::Dense1x2;
    // The lowest error correction: a screen is not torn, and a smaller picture fits the terminal.
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L)?;
    Ok(code.render().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

/// Seconds between packets that keep a NAT's mapping alive: what WireGuard's documentation recommends.
const KEEPALIVE: u16 = 25;

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";

    fn file(private_key: Option<&PrivateKey>) -> String {
        let plan = Plan::new("100.64.0.0/16".parse().unwrap(), "fd12:3456:789a::/48".parse().unwrap());
        let preshared: PresharedKey = PRIVATE.parse().unwrap();
        let file = WgQuick {
            name: "alice",
            private_key,
            addresses: &plan.both("100.64.0.2".parse().unwrap()),
            plan,
            domain: "corp.internal",
            mtu: 1280,
            gateway_key: PRIVATE.parse::<PrivateKey>().unwrap().public(),
            preshared: &preshared,
            endpoint: "gateway.example.com:51820",
        };
        file.to_string()
    }

    #[test]
    fn writes_what_wg_quick_reads() {
        let expected = "\
# alice: a device of the tailnet corp.internal
[Interface]
PrivateKey = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=
Address = 100.64.0.2/32, fd12:3456:789a::6440:2/128
DNS = 100.64.0.1, fd12:3456:789a::6440:1, corp.internal
MTU = 1280

[Peer]
PublicKey = hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=
PresharedKey = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=
AllowedIPs = 100.64.0.1/32, fd12:3456:789a::6440:1/128, 100.64.128.0/17, fd12:3456:789a::6440:8000/113
Endpoint = gateway.example.com:51820
PersistentKeepalive = 25
";
        assert_eq!(file(Some(&PRIVATE.parse().unwrap())), expected);
    }

    #[test]
    fn leaves_a_key_that_we_do_not_know_to_its_owner() {
        let file = file(None);
        assert!(file.contains("\n# PrivateKey = ") && !file.contains("\nPrivateKey"), "{file}");
    }

    #[test]
    fn draws_a_code_for_a_whole_file() {
        let code = qr_code(&file(Some(&PRIVATE.parse().unwrap()))).unwrap();
        assert!(code.lines().count() < 50 && code.contains('▀'), "{code}");
    }
}
