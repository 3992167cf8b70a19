//! Receivers over TLS, whose certificates are not those of an authority of the machine.

use std::{fs, io, net::SocketAddr, path::Path, sync::Arc};

use axum::serve::Listener;
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use voice_room::{
    config::{LedgerConfig, SinkConfig},
    sinks::Sinks,
    store::Store,
};

use super::{
    House, number,
    receiver::{Receiver, Reply},
    webhook, with,
};

/// An authority of nobody's but the test's.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// A receiver with a certificate for that name, or one that was good until 2001.
    async fn receiver(&self, name: &str, expired: bool) -> Receiver {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if expired {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = Encrypted {
            plain: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
        };
        Receiver::open_on(listener, "https", |_| Reply::Status(204))
    }
}

struct Encrypted {
    plain: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.plain.accept().await.unwrap();
            // A client that does not trust the certificate goes away.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.plain.local_addr()
    }
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

/// A file with a word before each certificate, as many have it.
fn write(dir: &TempDir, authorities: &[&Authority]) -> std::path::PathBuf {
    let path = dir.path().join("ca.pem");
    let texts = authorities
        .iter()
        .map(|authority| format!("# ours\n{}", pem(authority.0.der())));
    fs::write(&path, texts.collect::<String>()).unwrap();
    path
}

fn trusting(receiver: &Receiver, ca_file: &Path) -> SinkConfig {
    with(webhook("hook", &receiver.url()), |webhook| {
        webhook.ca_file = Some(ca_file.to_owned());
        webhook.tries = u32::MAX;
    })
}

#[tokio::test]
async fn a_receiver_with_a_certificate_of_an_authority_in_the_ca_file_gets_its_events() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let ca_file = write(&dir, &[&Authority::new("another"), &authority]);
    let receiver = authority.receiver("127.0.0.1", false).await;
    let house = House::open(&[trusting(&receiver, &ca_file)]);
    for n in 0..3 {
        house.publish("r", "t", n);
    }
    let requests = receiver.until(|all| all.len() == 3).await;
    let numbers = requests.iter().map(|request| number(&request.entry));
    assert_eq!(numbers.collect::<Vec<_>>(), [0, 1, 2]);
    house
        .until("hook", "all is taken", |status| status.lag == 0)
        .await;
    assert_eq!(house.status("hook").failing, None);
}

#[tokio::test]
async fn a_receiver_that_cannot_prove_who_it_is_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let ca_file = write(&dir, &[&authority]);
    let cases = [
        // By an authority that neither the machine nor the sink knows, and by one that
        // only calls itself as ours.
        (
            Authority::new("theirs").receiver("127.0.0.1", false).await,
            "UnknownIssuer",
        ),
        (
            Authority::new("ours").receiver("127.0.0.1", false).await,
            "BadSignature",
        ),
        (
            authority.receiver("127.0.0.2", false).await,
            "not valid for",
        ),
        (authority.receiver("127.0.0.1", true).await, "expired"),
    ];
    for (receiver, problem) in cases {
        let house = House::open(&[trusting(&receiver, &ca_file)]);
        house.publish("r", "t", 1);
        let fails = |failing: &voice_room::store::Failing| {
            failing.failures >= 2 && failing.problem.contains(problem)
        };
        house
            .until("hook", problem, |status| {
                status.failing.as_ref().is_some_and(fails)
            })
            .await;
        assert_eq!(
            (house.status("hook").lag, receiver.requests().len()),
            (1, 0)
        );
    }
    // And without the file, the sink trusts nobody whom the machine does not.
    let receiver = authority.receiver("127.0.0.1", false).await;
    let house = House::open(&[webhook("hook", &receiver.url())]);
    house.publish("r", "t", 1);
    house
        .until("hook", "it fails", |status| status.failing.is_some())
        .await;
    assert_eq!(receiver.requests().len(), 0);
}

#[tokio::test]
async fn a_ca_file_that_cannot_be_used_is_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let receiver = authority.receiver("127.0.0.1", false).await;
    let path = dir.path().join("ca.pem");
    let sinks = [trusting(&receiver, &path)];
    let store = Store::open_with(dir.path(), &LedgerConfig::default(), &sinks).unwrap();
    let problem = || Sinks::start(&sinks, &store).err().unwrap().to_string();
    let said = problem();
    assert!(said.starts_with("sink `hook`: ca_file /"), "{said}");
    assert!(
        said.contains("ca.pem: ") && said.contains("No such file"),
        "{said}"
    );
    fs::write(&path, "nothing of the kind\n").unwrap();
    assert!(problem().contains("there is no certificate"));
    let good = pem(authority.0.der());
    let bad = pem(&CertificateDer::from(vec![1, 2, 3]));
    fs::write(&path, format!("{good}{bad}")).unwrap();
    let said = problem();
    assert!(said.contains("certificate 2 cannot be used"), "{said}");
    fs::write(&path, good).unwrap();
    assert!(Sinks::start(&sinks, &store).is_ok());
}
