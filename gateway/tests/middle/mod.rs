//! A whole gateway's middle in one process: the memory tailnet, one device of alice's, one target, and a recording on disk.
//!
//! Shared by the tests of the session, of the brokers and by the figures; what each needs beside it, each brings itself.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use sallyport::access::Access;
use sallyport::clock::Clock;
use sallyport::config::Config;
use sallyport::identity::{Device, Directory, Origin, Owner};
use sallyport::session::{Budgets, Inside, Live, Runner};
use sallyport::state::{Folder, Keys, State};
use sallyport::target::Target;
use sallyport::world::World;
use sallyport_policies::Policy;
use sallyport_recorder::{Signer, Store};
use sallyport_tailnet::{Arrivals, Memory, MemoryDialer, Peer, PrivateKey, PublicKey, Tailnet};
use tokio::sync::watch;

/// Everything between a client's connection and a broker.
pub(crate) struct Middle {
    pub(crate) runner: Arc<Runner>,
    pub(crate) world: watch::Sender<Arc<World>>,
    pub(crate) device: Device,
    pub(crate) target: Target,
}

/// Makes calls inside the memory tailnet.
pub(crate) struct Calls {
    dialer: MemoryDialer,
    arrivals: Arrivals,
    _tailnet: Tailnet,
}

impl Middle {
    /// With the target that the configuration `targets` names first. All files lie in `folder`.
    pub(crate) async fn new(folder: &Path, policy: &str, targets: &str, clock: Clock) -> (Self, Calls) {
        let keys = Keys::open(&Folder::open(&folder.join("state")).unwrap()).unwrap();
        let config = Config::parse(targets, "test", folder, Some(&folder.join("state"))).unwrap();
        let state = State::open(&config).await.unwrap();
        let target = state.targets(&config.targets, clock.now()).await.unwrap().remove(0).target;
        let key = PrivateKey::generate().public();
        let device = Device {
            id: 1,
            name: "laptop".into(),
            key,
            owner: Owner::User("alice@example.com".into()),
            addresses: vec!["100.64.0.2".parse().unwrap()],
            expires: None,
            attributes: Default::default(),
        };
        let (tailnet, arrivals, dialer) = Memory::new();
        let peer = Peer { key, preshared: None, addresses: device.addresses.clone(), endpoint: None, keepalive: None };
        tailnet.upsert(peer).unwrap();
        let (world, worlds) = watch::channel(world(1, policy, &[&device], &[&target]));
        let runner = Arc::new(Runner {
            access: Access::new(worlds, clock),
            store: Store::open(&folder.join("recordings")).unwrap(),
            signer: Arc::new(Signer::new(keys.recording)),
            live: Live::default(),
            state,
            gateway: "test".into(),
            inside: Inside::new().0,
            budgets: Budgets::default(),
        });
        (Self { runner, world, device, target }, Calls { dialer, arrivals, _tailnet: tailnet })
    }
}

impl Calls {
    /// What the gateway sees when `key` calls `to` from `source`.
    pub(crate) async fn origin(&mut self, key: PublicKey, source: IpAddr, to: SocketAddr) -> Origin {
        let call = self.dialer.connect(key, source, to);
        let (_far, arrival) = tokio::join!(call, self.arrivals.next());
        Origin::from(&arrival.unwrap())
    }
}

/// A revision of everything that decisions depend on.
pub(crate) fn world(revision: u64, policy: &str, devices: &[&Device], targets: &[&Target]) -> Arc<World> {
    let policy = Arc::new(Policy::parse(policy).unwrap().policy);
    let directory = Directory::new(devices.iter().map(|device| (*device).clone()));
    Arc::new(World::new(revision, policy, directory, targets.iter().map(|target| (*target).clone()).collect()))
}
