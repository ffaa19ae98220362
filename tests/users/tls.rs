//! TLS: who is let in with which certificate, and certificates that change.

use crate::{BINARY, asking::get, client::plain};
use leveret_testkit::{
    Broker, EVENT_WAIT_MAX, ScratchDirectory,
    wire::{Arguments, PROTOCOL_HEADER, Reader, Tune, id, method_bytes},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

/// An authority, and a folder with what it signed.
pub(crate) struct World {
    pub(crate) authority: CertifiedIssuer<'static, KeyPair>,
    folder: ScratchDirectory,
}

/// A certificate and its key.
pub(crate) struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(crate) fn sign(authority: &CertifiedIssuer<'static, KeyPair>, common_name: &str) -> Signed {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(serial(common_name));
    Signed { certificate: params.signed_by(&key, authority).unwrap(), key }
}

/// Certificates of one name have one number here.
fn serial(common_name: &str) -> SerialNumber {
    SerialNumber::from_slice(common_name.as_bytes())
}

impl World {
    /// Has the authority revoke the certificates of these names, and no others.
    fn revoke(&self, common_names: &[&str]) {
        let revoked = |name: &&str| RevokedCertParams {
            serial_number: serial(name),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2126, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: common_names.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.authority).unwrap().pem().unwrap();
        let aside = self.folder.path().join("revoked.pem.new");
        fs::write(&aside, list).unwrap();
        fs::rename(aside, self.folder.path().join("revoked.pem")).unwrap();
    }

    pub(crate) fn new() -> Self {
        let world = Self { authority: authority("an authority"), folder: ScratchDirectory::new("tls") };
        fs::write(world.folder.path().join("ca.pem"), world.authority.pem()).unwrap();
        world.renew("broker");
        world
    }

    /// Puts another certificate in the place of the broker's.
    fn renew(&self, common_name: &str) {
        let Signed { certificate, key } = sign(&self.authority, common_name);
        for (file, content) in [("key.pem", key.serialize_pem()), ("certificate.pem", certificate.pem())] {
            let aside = self.folder.path().join(format!("{file}.new"));
            fs::write(&aside, content).unwrap();
            fs::rename(aside, self.folder.path().join(file)).unwrap();
        }
    }

    /// A broker with users `alice`, who has no password, and `guest`.
    pub(crate) fn broker(&self, more: &str) -> (Broker, SocketAddr) {
        self.broker_with_http("127.0.0.1:0", more)
    }

    /// The same, with the HTTP API without TLS there.
    fn broker_with_http(&self, http: &str, more: &str) -> (Broker, SocketAddr) {
        let path = |file: &str| self.folder.path().join(file).display().to_string();
        let configuration = format!(
            "tls-listen = \"127.0.0.1:0\"\ntls-certificate = {:?}\ntls-key = {:?}\ntls-ca = {:?}\n{more}\n\
             [users.alice]\n[users.alice.permissions.\"/\"]\n\
             [users.guest]\npassword = \"guest\"\ntags = [\"administrator\"]\n[users.guest.permissions.\"/\"]\n",
            path("certificate.pem"),
            path("key.pem"),
            path("ca.pem")
        );
        fs::write(self.folder.path().join("leveret.toml"), configuration).unwrap();
        let broker = Broker::builder(BINARY)
            .http_listen(http)
            .argument("--config")
            .argument(path("leveret.toml"))
            .start();
        let line = broker.wait_for_log("TLS on ", EVENT_WAIT_MAX);
        let address = line.split("TLS on ").nth(1).unwrap().trim().parse().unwrap();
        (broker, address)
    }
}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A connection that trusts the authority, and shows a certificate if it has one.
pub(crate) fn connect(world: &World, address: SocketAddr, shows: Option<&Signed>) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(world.authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match shows {
        Some(Signed { certificate, key }) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(EVENT_WAIT_MAX)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

/// The next method on channel 0, and its arguments.
fn method(tls: &mut Tls) -> std::io::Result<(id::MethodId, Reader)> {
    let mut head = [0; 7];
    tls.read_exact(&mut head)?;
    let mut payload = vec![0; u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize + 1];
    tls.read_exact(&mut payload)?;
    let mut reader = Reader::new(&payload);
    Ok(((reader.short(), reader.short()), reader))
}

/// What connection.start offers; an error where there is no TLS.
fn mechanisms(tls: &mut Tls) -> std::io::Result<String> {
    tls.write_all(&PROTOCOL_HEADER)?;
    let (start, mut arguments) = method(tls)?;
    assert_eq!(start, id::CONNECTION_START);
    let (_version, _properties) = (arguments.short(), arguments.long_string());
    Ok(String::from_utf8(arguments.long_string()).unwrap())
}

/// Logs in and opens `/`; whether that is allowed.
fn is_let_in(tls: &mut Tls, mechanism: &str, response: &[u8]) -> bool {
    mechanisms(tls).unwrap();
    let start_ok = Arguments::start_ok(mechanism, response);
    tls.write_all(&method_bytes(0, id::CONNECTION_START_OK, start_ok)).unwrap();
    // Who is refused is cut off.
    let Ok((tune, mut arguments)) = method(tls) else { return false };
    assert_eq!(tune, id::CONNECTION_TUNE);
    let tune = Tune {
        channel_max: arguments.short(),
        frame_max_bytes: arguments.long(),
        heartbeat_seconds: arguments.short(),
    };
    tls.write_all(&method_bytes(0, id::CONNECTION_TUNE_OK, Arguments::tune_ok(tune))).unwrap();
    tls.write_all(&method_bytes(0, id::CONNECTION_OPEN, Arguments::open("/"))).unwrap();
    method(tls).unwrap().0 == id::CONNECTION_OPEN_OK
}

#[test]
fn a_password_goes_through_tls_and_external_needs_a_certificate() {
    let world = World::new();
    let (broker, address) = world.broker("tls-clients = \"optional\"");
    let mut bare = connect(&world, address, None);
    assert!(is_let_in(&mut bare, "PLAIN", &plain("guest", "guest")));
    assert_eq!(mechanisms(&mut connect(&world, address, None)).unwrap(), "PLAIN AMQPLAIN");
    assert!(!is_let_in(&mut connect(&world, address, None), "EXTERNAL", b""));
    let alice = sign(&world.authority, "alice");
    let offered = mechanisms(&mut connect(&world, address, Some(&alice))).unwrap();
    assert_eq!(offered, "PLAIN AMQPLAIN EXTERNAL");
    assert!(is_let_in(&mut connect(&world, address, Some(&alice)), "EXTERNAL", b""));
    // A name that is no user's.
    let nobody = sign(&world.authority, "nobody");
    assert!(!is_let_in(&mut connect(&world, address, Some(&nobody)), "EXTERNAL", b""));
    // Another's signature.
    let stranger = sign(&authority("another authority"), "alice");
    mechanisms(&mut connect(&world, address, Some(&stranger))).unwrap_err();
    broker.wait_for_log("TLS with 127.0.0.1", EVENT_WAIT_MAX);
    // What is no TLS gets none.
    let mut plain_text = TcpStream::connect(address).unwrap();
    plain_text.set_read_timeout(Some(EVENT_WAIT_MAX)).unwrap();
    plain_text.write_all(&PROTOCOL_HEADER).unwrap();
    let mut answer = Vec::new();
    // It may be reset.
    let _ = plain_text.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"AMQP") && answer.first() != Some(&1), "{answer:?}");
    bare.write_all(&[8, 0, 0, 0, 0, 0, 0, 0xce]).unwrap();
}

#[test]
fn a_connection_tells_what_tls_came_to_and_which_certificate_was_shown() {
    let world = World::new();
    let (broker, address) = world.broker("tls-clients = \"optional\"");
    let told = |of: &str| {
        let listed = get(&broker, "connections").1;
        let of = listed.as_array().unwrap().iter().find(|one| one["auth_mechanism"] == of).cloned();
        let of = of.unwrap_or_else(|| panic!("{listed}"));
        [
            "ssl",
            "ssl_protocol",
            "ssl_key_exchange",
            "ssl_cipher",
            "ssl_hash",
            "peer_cert_subject",
            "peer_cert_issuer",
            "peer_cert_validity",
        ]
        .map(|field| of.get(field).cloned().unwrap_or_else(|| panic!("no {field}: {of}")))
    };
    let mut shows = connect(&world, address, Some(&sign(&world.authority, "alice")));
    assert!(is_let_in(&mut shows, "EXTERNAL", b""));
    let mut bare = connect(&world, address, None);
    assert!(is_let_in(&mut bare, "PLAIN", &plain("guest", "guest")));
    let [cipher, key] = ["aes_256_gcm", "any"].map(Value::from);
    let names = ["CN=alice", "CN=an authority"].map(Value::from);
    let [ssl, protocol, exchange, encrypts, hash, subject, issuer, validity] = told("EXTERNAL");
    assert_eq!((&ssl, &protocol, &hash), (&json!(true), &json!("tlsv1.3"), &json!("aead")));
    assert_eq!(([&exchange, &encrypts], [&subject, &issuer]), ([&key, &cipher], names.each_ref()));
    assert_eq!(validity, "1975-01-01T00:00:00Z - 4096-01-01T00:00:00Z");
    let null = Value::Null;
    let [ssl, protocol, .., subject, issuer, validity] = told("PLAIN");
    assert_eq!((&ssl, &protocol), (&json!(true), &json!("tlsv1.3")));
    assert_eq!([&subject, &issuer, &validity], [&null; 3], "it showed none");
    drop(bare);
    let mut unprotected = crate::client::log_in(broker.address(), "AMQPLAIN", &amqplain());
    crate::client::open(&mut unprotected, "/");
    unprotected.expect_method(0, id::CONNECTION_OPEN_OK);
    let [ssl, rest @ ..] = told("AMQPLAIN");
    assert_eq!((&ssl, rest.each_ref()), (&json!(false), [&null; 7]));
}

/// The log-in of guest as AMQPLAIN has it: a table without its length.
fn amqplain() -> Vec<u8> {
    let text = |name: &str, value: &str| {
        Arguments::new().short_string(name).octet(b'S').long_string(value.as_bytes()).into_bytes()
    };
    [text("LOGIN", "guest"), text("PASSWORD", "guest")].concat()
}

#[test]
fn certificates_of_clients_may_be_required_and_name_users_otherwise() {
    let world = World::new();
    let (_broker, address) = world.broker("tls-clients = \"required\"\ntls-login-from = \"dns\"");
    mechanisms(&mut connect(&world, address, None)).unwrap_err();
    let localhost = sign(&world.authority, "alice");
    assert!(is_let_in(&mut connect(&world, address, Some(&localhost)), "PLAIN", &plain("guest", "guest")));
    // Its name of the DNS is no user's.
    assert!(!is_let_in(&mut connect(&world, address, Some(&localhost)), "EXTERNAL", b""));
}

#[test]
fn certificates_that_change_are_read_anew_and_bad_ones_are_not_taken() {
    let world = World::new();
    let (broker, address) = world.broker("");
    let shown = || {
        let mut tls = connect(&world, address, None);
        mechanisms(&mut tls).unwrap();
        tls.conn.peer_certificates().unwrap()[0].clone()
    };
    let before = shown();
    let lines = broker.log_length();
    world.renew("broker, again");
    broker.wait_for_log_after(lines, "TLS certificates are read anew", EVENT_WAIT_MAX);
    let renewed = shown();
    assert_ne!(before, renewed);
    let lines = broker.log_length();
    fs::write(world.folder.path().join("certificate.pem"), "no certificate").unwrap();
    broker.wait_for_log_after(lines, "TLS certificates stay as they were", EVENT_WAIT_MAX);
    assert_eq!(shown(), renewed);
}

#[test]
fn more_goes_through_tls_than_the_socket_takes_at_once() {
    let world = World::new();
    let (_broker, address) = world.broker("");
    let mut tls = connect(&world, address, None);
    assert!(is_let_in(&mut tls, "PLAIN", &plain("guest", "guest")));
    tls.write_all(&method_bytes(1, id::CHANNEL_OPEN, Arguments::new().short_string(""))).unwrap();
    assert_eq!(method(&mut tls).unwrap().0, id::CHANNEL_OPEN_OK);
    // Every answer is some thirteen bytes, and nobody reads before all was asked.
    let qos = method_bytes(1, id::BASIC_QOS, Arguments::new().long(0).short(1).bits(&[false]));
    const ASKED: usize = 20_000;
    for _ in 0..20 {
        tls.write_all(&qos.repeat(ASKED / 20)).unwrap();
    }
    for _ in 0..ASKED {
        assert_eq!(method(&mut tls).unwrap().0, id::BASIC_QOS_OK);
    }
}

#[test]
fn a_certificate_that_is_revoked_lets_nobody_in_also_when_the_list_comes_later() {
    let world = World::new();
    world.revoke(&["mallory"]);
    let list = world.folder.path().join("revoked.pem").display().to_string();
    let (broker, address) = world.broker(&format!("tls-clients = \"optional\"\ntls-crl = {list:?}"));
    let [alice, mallory] = ["alice", "mallory"].map(|name| sign(&world.authority, name));
    mechanisms(&mut connect(&world, address, Some(&mallory))).unwrap_err();
    assert!(is_let_in(&mut connect(&world, address, Some(&alice)), "EXTERNAL", b""));
    assert!(is_let_in(&mut connect(&world, address, None), "PLAIN", &plain("guest", "guest")));
    let lines = broker.log_length();
    world.revoke(&["alice", "mallory"]);
    broker.wait_for_log_after(lines, "TLS certificates are read anew", EVENT_WAIT_MAX);
    mechanisms(&mut connect(&world, address, Some(&alice))).unwrap_err();
    // A list that is none leaves what was read before.
    let lines = broker.log_length();
    fs::write(world.folder.path().join("revoked.pem"), "no list").unwrap();
    broker.wait_for_log_after(lines, "no revocation list in", EVENT_WAIT_MAX);
    mechanisms(&mut connect(&world, address, Some(&alice))).unwrap_err();
}

/// What a request for who asks is answered with.
fn whoami(stream: &mut (impl Read + Write)) -> String {
    let request = "GET /api/whoami HTTP/1.1\r\nhost: broker.example\r\nconnection: close\r\n\
                   authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // Whoever closes first may not say so.
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn the_http_api_may_have_tls_alone() {
    let world = World::new();
    let (broker, _) = world.broker_with_http("none", "https-listen = \"127.0.0.1:0\"");
    let line = broker.wait_for_log("HTTPS API on https://", EVENT_WAIT_MAX);
    let address: SocketAddr = line.split("https://").nth(1).unwrap().trim().parse().unwrap();
    assert!(whoami(&mut connect(&world, address, None)).starts_with("HTTP/1.1 200"));
    assert!(!broker.log().contains("HTTP API on http://"), "{}", broker.log());
}

#[test]
fn the_http_api_has_tls_too_and_there_any_name_of_the_broker_will_do() {
    let world = World::new();
    let (broker, _) = world.broker("tls-clients = \"required\"\nhttps-listen = \"127.0.0.1:0\"");
    let line = broker.wait_for_log("HTTPS API on https://", EVENT_WAIT_MAX);
    let address: SocketAddr = line.split("https://").nth(1).unwrap().trim().parse().unwrap();
    let answer = whoami(&mut connect(&world, address, None));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"name\":\"guest\""), "{answer}");
    // Without TLS a name that is not this machine's is a page's that was turned here.
    let mut bare = TcpStream::connect(broker.http_address()).unwrap();
    assert!(whoami(&mut bare).starts_with("HTTP/1.1 4"));
    // And nobody is answered there who speaks no TLS.
    let mut bare = TcpStream::connect(address).unwrap();
    assert!(!whoami(&mut bare).contains("200"));
    let lines = broker.log_length();
    world.renew("broker, again");
    broker.wait_for_log_after(lines, "TLS certificates are read anew", EVENT_WAIT_MAX);
    let mut tls = connect(&world, address, None);
    assert!(whoami(&mut tls).starts_with("HTTP/1.1 200"));
    let shown = tls.conn.peer_certificates().unwrap()[0].clone();
    assert!(shown.windows(13).any(|bytes| bytes == b"broker, again"));
}
