//! Agents against the real authority over loopback.
//!
//! Time passes by a clock that the test sets; the agent's sleeps are skipped, its exchanges are not.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use weft_ca::{
    Authenticators, AuthorityConfig, CertificateAuthority, ClientCertificates, ServerNames,
    SigningService, TlsIncoming, TokenIssuer,
};
use weft_spiffe::{SpiffeId, TrustDomain};
use weft_tls::{ServerTls, ServerTlsSpec, ValidationSpec};

use crate::agent::Current;
use crate::{Agent, AgentConfig, Clock, FilesConfig, KeyType, RetryPolicy, WorkloadCertificates};

const HOUR: Duration = Duration::from_secs(3600);
/// Nothing here takes this long; it ends a test that would hang.
const DEADLINE: Duration = Duration::from_secs(60);

fn domain() -> TrustDomain {
    TrustDomain::new("td").unwrap()
}

fn id(service_account: &str) -> SpiffeId {
    SpiffeId::workload(&domain(), "default", service_account).unwrap()
}

/// A running authority, and a workload's files.
struct World {
    folder: tempfile::TempDir,
    authority: Arc<CertificateAuthority>,
    tokens: TokenIssuer,
    address: SocketAddr,
    server: JoinSet<()>,
    /// Seconds that the workload's clock is ahead.
    ahead: Arc<AtomicU64>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("ca");
        let authority = CertificateAuthority::open(AuthorityConfig::new(&home, domain())).unwrap();
        let mut world = Self {
            tokens: TokenIssuer::open(&home).unwrap(),
            authority: Arc::new(authority),
            address: "127.0.0.1:0".parse().unwrap(),
            server: JoinSet::new(),
            ahead: Arc::new(AtomicU64::new(0)),
            folder,
        };
        std::fs::write(world.file("root.pem"), world.authority.roots_pem()).unwrap();
        world.write_token("web");
        world.start_authority().await;
        world
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_token(&self, service_account: &str) {
        let token = self.tokens.issue("default", service_account, HOUR).unwrap();
        std::fs::write(self.file("token"), token).unwrap();
    }

    async fn start_authority(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let names = ServerNames { dns: vec!["ca.test".into()], ..ServerNames::default() };
        let certificate = self.authority.issue_server(&names, None).unwrap();
        let roots = self.authority.roots().clone();
        let tls = ServerTls::new(&ServerTlsSpec {
            validation: Some(ValidationSpec::new(roots, vec![])),
            alpn: vec![b"h2".to_vec()],
            ..ServerTlsSpec::new(vec![certificate.credential])
        });
        let (keep, tls) = watch::channel(Arc::new(tls.unwrap()));
        let ways = Authenticators::new(vec![
            Arc::new(ClientCertificates { trust_domain: domain() }),
            Arc::new(self.tokens.verifier(domain()).unwrap()),
        ]);
        let service = SigningService::new(Arc::clone(&self.authority), ways).into_server();
        self.server.spawn(async move {
            let _keep = keep;
            let incoming = TlsIncoming::new(listener, tls);
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(incoming).await.unwrap();
        });
    }

    async fn stop_authority(&mut self) {
        self.server.shutdown().await;
    }

    fn config(&self) -> AgentConfig {
        let ahead = Arc::clone(&self.ahead);
        let clock = move || SystemTime::now() + Duration::from_secs(ahead.load(Ordering::Relaxed));
        AgentConfig {
            token: Some(self.file("token")),
            cache: Some(self.file("state/certificate.json")),
            retry: RetryPolicy {
                initial: Duration::from_millis(10),
                max: Duration::from_millis(50),
            },
            clock: Clock::new(clock),
            ..AgentConfig::new(
                self.address.to_string(),
                "ca.test",
                self.file("root.pem"),
                id("web"),
            )
        }
    }

    /// Lets time pass for the workload.
    async fn pass(&self, time: Duration) {
        self.ahead.fetch_add(time.as_secs(), Ordering::Relaxed);
        skip_sleep().await;
    }
}

/// Wakes the agent from a sleep of at most five seconds.
async fn skip_sleep() {
    // Let it reach its sleep first.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
}

/// The next certificate that `wanted` holds for.
async fn next(
    certificates: &mut watch::Receiver<Current>,
    wanted: impl Fn(&WorkloadCertificates) -> bool,
) -> Arc<WorkloadCertificates> {
    let ready = |current: &Current| current.as_deref().is_some_and(&wanted);
    let current = timeout(DEADLINE, certificates.wait_for(ready)).await;
    current.unwrap().unwrap().clone().unwrap()
}

async fn next_failure(agent: &Agent) -> String {
    let mut failure = agent.failure();
    let reason = timeout(DEADLINE, failure.wait_for(Option::is_some)).await;
    reason.unwrap().unwrap().clone().unwrap()
}

#[tokio::test]
async fn certificate_is_renewed_at_half_of_its_lifetime_by_certificate() {
    let world = World::new().await;
    let agent = Agent::spawn(world.config());
    let mut certificates = agent.certificates();
    let first = next(&mut certificates, |_| true).await;
    assert_eq!(first.spiffe_id().unwrap(), id("web"));
    assert_eq!(first.roots_pem(), world.authority.roots_pem());
    std::fs::remove_file(world.file("token")).unwrap();

    world.pass(11 * HOUR).await;
    assert!(!certificates.has_changed().unwrap(), "not due yet");
    world.pass(2 * HOUR).await;
    let second = next(&mut certificates, |new| new != &*first).await;
    assert_ne!(second.key_pem(), first.key_pem(), "each certificate has a new key");
}

#[tokio::test]
async fn old_certificate_stays_while_the_authority_is_gone() {
    let mut world = World::new().await;
    let agent = Agent::spawn(world.config());
    let mut certificates = agent.certificates();
    let first = next(&mut certificates, |_| true).await;
    world.stop_authority().await;
    world.pass(13 * HOUR).await;
    let reason = next_failure(&agent).await;
    assert!(reason.contains("can't connect"), "{reason}");
    assert_eq!(certificates.borrow().as_ref(), Some(&first));
    world.start_authority().await;
    next(&mut certificates, |new| new != &*first).await;
    assert_eq!(*agent.failure().borrow(), None);
}

#[tokio::test]
async fn restart_serves_from_the_cache_without_an_authority() {
    let mut world = World::new().await;
    let agent = Agent::spawn(world.config());
    let first = next(&mut agent.certificates(), |_| true).await;
    drop(agent);
    world.stop_authority().await;
    let cache = world.file("state/certificate.json");
    let mode = std::fs::metadata(&cache).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let agent = Agent::spawn(world.config());
    let cached = agent.certificates().borrow().clone().unwrap();
    assert_eq!(cached.credential(), first.credential());
    assert_eq!(cached.key_pem(), first.key_pem());

    let other = Agent::spawn(AgentConfig { identity: id("other"), ..world.config() });
    assert!(other.certificates().borrow().is_none(), "another's cache");
    std::fs::write(&cache, "{").unwrap();
    let broken = Agent::spawn(world.config());
    assert!(broken.certificates().borrow().is_none());
}

#[tokio::test]
async fn expired_certificate_in_the_cache_is_not_used() {
    let world = World::new().await;
    let agent = Agent::spawn(world.config());
    next(&mut agent.certificates(), |_| true).await;
    drop(agent);
    world.ahead.store(25 * 3600, Ordering::Relaxed);
    let agent = Agent::spawn(world.config());
    assert!(agent.certificates().borrow().is_none());
}

#[tokio::test]
async fn expired_token_is_named_and_a_new_one_is_picked_up() {
    let world = World::new().await;
    // Longer ago than verifiers tolerate.
    let expired = world.tokens.issue_until("default", "web", SystemTime::now() - HOUR);
    std::fs::write(world.file("token"), expired.unwrap()).unwrap();
    let agent = Agent::spawn(world.config());
    let reason = next_failure(&agent).await;
    assert!(reason.contains("ExpiredSignature"), "{reason}");
    world.write_token("web");
    next(&mut agent.certificates(), |_| true).await;
}

#[tokio::test]
async fn authority_with_another_root_is_not_believed() {
    let world = World::new().await;
    let other = AuthorityConfig::new(world.file("other"), domain());
    let other = CertificateAuthority::open(other).unwrap();
    std::fs::write(world.file("root.pem"), other.roots_pem()).unwrap();
    let agent = Agent::spawn(world.config());
    let reason = next_failure(&agent).await;
    assert!(reason.contains("issuer is not trusted"), "{reason}");
    assert!(agent.certificates().borrow().is_none());
}

#[tokio::test]
async fn authority_with_another_name_is_not_believed() {
    let world = World::new().await;
    let agent = Agent::spawn(AgentConfig { server_name: "other.test".into(), ..world.config() });
    let reason = next_failure(&agent).await;
    assert!(reason.contains("DNS:ca.test") && reason.contains("other.test"), "{reason}");
}

#[tokio::test]
async fn certificate_for_someone_else_is_refused() {
    let world = World::new().await;
    world.write_token("other");
    let agent = Agent::spawn(world.config());
    let reason = next_failure(&agent).await;
    assert!(reason.contains("sa/other, not for"), "{reason}");
}

#[tokio::test]
async fn missing_token_file_is_named() {
    let world = World::new().await;
    std::fs::remove_file(world.file("token")).unwrap();
    let agent = Agent::spawn(world.config());
    let reason = next_failure(&agent).await;
    assert!(reason.contains("/token: No such file"), "{reason}");
}

#[tokio::test]
async fn changed_roots_make_the_agent_renew_at_once() {
    let world = World::new().await;
    let agent = Agent::spawn(world.config());
    let mut certificates = agent.certificates();
    let first = next(&mut certificates, |_| true).await;
    let other = AuthorityConfig::new(world.file("other"), domain());
    let other = CertificateAuthority::open(other).unwrap();
    let both = world.authority.roots_pem().to_owned() + other.roots_pem();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    std::fs::write(world.file("root.pem"), both).unwrap();
    skip_sleep().await;
    next(&mut certificates, |new| new != &*first).await;
}

#[tokio::test]
async fn rsa_keys_are_certified_too() {
    let world = World::new().await;
    let agent = Agent::spawn(AgentConfig { key_type: KeyType::Rsa2048, ..world.config() });
    let certificates = next(&mut agent.certificates(), |_| true).await;
    assert!(certificates.credential().leaf().public_key.len() > 256);
}

#[tokio::test]
async fn given_certificate_proves_the_identity_in_place_of_a_token() {
    let world = World::new().await;
    let agent = Agent::spawn(world.config());
    let first = next(&mut agent.certificates(), |_| true).await;
    drop(agent);
    let folder = world.file("given");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("cert-chain.pem"), first.chain_pem()).unwrap();
    std::fs::write(folder.join("key.pem"), first.key_pem()).unwrap();
    let agent = Agent::spawn(AgentConfig {
        token: None,
        cache: None,
        identity_folder: Some(folder),
        ..world.config()
    });
    let second = next(&mut agent.certificates(), |_| true).await;
    assert_ne!(second.key_pem(), first.key_pem());
}

#[tokio::test]
async fn files_are_followed_and_half_a_change_is_not_used() {
    let world = World::new().await;
    let fetch = || async {
        let config = AgentConfig { cache: None, ..world.config() };
        let agent = Agent::spawn(config);
        next(&mut agent.certificates(), |_| true).await
    };
    let (one, two) = (fetch().await, fetch().await);
    let files = ["chain.pem", "key.pem", "roots.pem"].map(|name| world.file(name));
    let [chain, key, roots] = files.clone();
    let agent = Agent::watch_files(FilesConfig::new(&chain, &key, &roots));
    let reason = next_failure(&agent).await;
    assert!(reason.contains("chain.pem: No such file"), "{reason}");

    std::fs::write(&chain, one.chain_pem()).unwrap();
    std::fs::write(&key, one.key_pem()).unwrap();
    std::fs::write(&roots, one.roots_pem()).unwrap();
    skip_sleep().await;
    let mut certificates = agent.certificates();
    next(&mut certificates, |new| new.key_pem() == one.key_pem()).await;

    std::fs::write(&chain, two.chain_pem()).unwrap();
    skip_sleep().await;
    let reason = next_failure(&agent).await;
    assert!(reason.contains("doesn't belong"), "{reason}");
    let current = certificates.borrow().clone().unwrap();
    assert_eq!(current.chain_pem(), one.chain_pem());

    std::fs::write(&key, two.key_pem()).unwrap();
    skip_sleep().await;
    next(&mut certificates, |new| new.key_pem() == two.key_pem()).await;
}
