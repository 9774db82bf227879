//! The facts.

use std::net::IpAddr;
use std::time::Duration;

use outrigger_agent::engine::{
    ContainerState, Engine, EngineError, EngineEvent, Health, LossLabel, NewNetwork, PullProgress,
};
use outrigger_agent::pool;
use outrigger_protocol::{
    Attachment, ContainerSpec, FleetId, LogChunk, LogsRequest, NetworkSpec, PlacementId, PortProtocol, PublishMode,
    PublishedPort,
};
use tokio::sync::{mpsc, watch};

use super::{Bench, Watched, eventually, new};

pub async fn a_started_container_runs_and_is_known_by_its_labels(bench: &impl Bench) {
    let mut watched = Watched::new(bench.engine()).await;
    let wanted = new(bench.runs());
    let id = watched.start(&wanted).await;
    let told = watched.until_state(&id, |state| state.is_running()).await;
    assert_eq!((told.placement, &told.replica, told.loss), (wanted.placement, &wanted.replica, LossLabel::Exclusive));
    assert_eq!(told.image, wanted.spec.image);
    assert!(told.digest.starts_with("sha256:"), "{}", told.digest);
    let listed = watched.engine.list().await.unwrap();
    assert!(listed.iter().any(|one| one.id == id && one.placement == wanted.placement));
    watched.clean().await;
}

pub async fn a_stopped_container_has_ended_and_a_removed_one_is_gone(bench: &impl Bench) {
    let mut watched = Watched::new(bench.engine()).await;
    let id = watched.start(&new(bench.runs())).await;
    watched.engine.stop(&id, Duration::from_secs(10)).await.unwrap();
    watched.until_state(&id, |state| matches!(state, ContainerState::Exited { out_of_memory: false, .. })).await;
    // Twice is no error, and neither is a container that is gone.
    watched.engine.stop(&id, Duration::from_secs(10)).await.unwrap();
    watched.engine.remove(&id).await.unwrap();
    watched.until(|event| (event == EngineEvent::Gone(id.clone())).then_some(())).await;
    watched.engine.stop(&id, Duration::from_secs(10)).await.unwrap();
    watched.engine.remove(&id).await.unwrap();
    let refused = watched.engine.start(&id).await;
    assert!(matches!(refused, Err(EngineError::NoSuchContainer { .. })), "{refused:?}");
    watched.clean().await;
}

pub async fn a_crash_is_told_with_its_code_and_the_container_starts_again(bench: &impl Bench) {
    let mut watched = Watched::new(bench.engine()).await;
    let id = watched.start(&new(bench.crashes())).await;
    let is_crash = |state| state == ContainerState::Exited { code: 1, out_of_memory: false };
    let ended = watched.until_state(&id, is_crash).await;
    assert_eq!(ended.pid, None);
    watched.engine.start(&id).await.unwrap();
    watched.until_state(&id, |state| state.is_running()).await;
    watched.until_state(&id, is_crash).await;
    watched.clean().await;
}

pub async fn a_kill_for_memory_is_told_apart_from_a_crash(bench: &impl Bench) {
    if !bench.runs_healthchecks() {
        eprintln!("left out: this engine runs no healthchecks here");
        return;
    }
    let mut watched = Watched::new(bench.engine()).await;
    let id = watched.start(&new(bench.is_greedy())).await;
    // What is told first decides what is done next: it must be right at once.
    let ended = watched.until_state(&id, |state| !state.is_running()).await;
    assert_eq!(ended.state, ContainerState::Exited { code: 137, out_of_memory: true });
    watched.clean().await;
}

pub async fn health_is_told_when_it_changes(bench: &impl Bench) {
    if !bench.runs_healthchecks() {
        eprintln!("left out: this engine runs no healthchecks here");
        return;
    }
    let mut watched = Watched::new(bench.engine()).await;
    let id = watched.start(&new(bench.is_healthy())).await;
    let is = |wanted| move |state| state == ContainerState::Running { health: wanted };
    watched.until_state(&id, is(Health::Starting)).await;
    watched.until_state(&id, is(Health::Healthy)).await;
    watched.clean().await;
}

pub async fn a_missing_image_is_told_and_its_pull_keeps_the_reason(bench: &impl Bench) {
    let engine = bench.engine();
    let image = bench.missing_image();
    assert_eq!(engine.image(&image).await.unwrap(), None);
    let spec = outrigger_protocol::ContainerSpec { image: image.clone(), ..bench.runs() };
    let refused = engine.create_and_start(&new(spec)).await;
    assert_eq!(refused, Err(EngineError::ImageNotFound { image: image.clone() }));
    let (progress, _) = watch::channel(PullProgress::default());
    match engine.pull(&image, None, None, progress).await {
        Err(EngineError::PullFailed { image: named, reason }) => {
            assert_eq!(named, image);
            assert!(reason.len() > 10, "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

pub async fn a_present_image_has_a_digest(bench: &impl Bench) {
    let digest = bench.engine().image(&bench.runs().image).await.unwrap();
    assert!(digest.is_some_and(|digest| digest.starts_with("sha256:") && digest.len() == 71));
}

pub async fn a_taken_port_is_told_and_leaves_nothing_behind(bench: &impl Bench) {
    let mut watched = Watched::new(bench.engine()).await;
    let port = PublishedPort {
        container: 8080,
        host: Some(bench.port()),
        address: None,
        protocol: PortProtocol::Tcp,
        mode: PublishMode::Host,
    };
    let spec = outrigger_protocol::ContainerSpec { ports: vec![port.clone()], ..bench.runs() };
    let first = watched.start(&new(spec.clone())).await;
    let told = watched.until_state(&first, |state| state.is_running()).await;
    assert_eq!(told.ports, [(8080, bench.port(), PortProtocol::Tcp)]);

    let second = new(spec);
    let refused = watched.engine.create_and_start(&second).await;
    assert!(matches!(refused, Err(EngineError::PortTaken { .. })), "{refused:?}");
    let listed = watched.engine.list().await.unwrap();
    assert!(listed.iter().all(|one| one.placement != second.placement));

    // Once it is free it can be had.
    watched.engine.remove(&first).await.unwrap();
    watched.start(&second).await;
    watched.clean().await;
}

pub async fn an_open_port_without_a_number_gets_one(bench: &impl Bench) {
    let mut watched = Watched::new(bench.engine()).await;
    let port = PublishedPort {
        container: 8080,
        host: None,
        address: None,
        protocol: PortProtocol::Tcp,
        mode: PublishMode::Host,
    };
    let spec = outrigger_protocol::ContainerSpec { ports: vec![port], ..bench.runs() };
    let id = watched.start(&new(spec)).await;
    let told = watched.until_state(&id, |state| state.is_running()).await;
    assert!(matches!(told.ports.as_slice(), [(8080, host, PortProtocol::Tcp)] if *host > 1024), "{:?}", told.ports);
    watched.clean().await;
}

pub async fn a_container_that_cannot_start_leaves_nothing_behind(bench: &impl Bench) {
    let engine = bench.engine();
    let wanted = new(bench.cannot_start());
    let refused = engine.create_and_start(&wanted).await;
    assert!(matches!(refused, Err(EngineError::Refused { .. })), "{refused:?}");
    let listed = engine.list().await.unwrap();
    assert!(listed.iter().all(|one| one.placement != wanted.placement));
}

pub async fn a_leftover_of_the_same_placement_is_taken_over(bench: &impl Bench) {
    let mut watched = Watched::new(bench.engine()).await;
    let wanted = new(bench.runs());
    let id = watched.start(&wanted).await;
    assert_eq!(watched.start(&wanted).await, id, "while it runs");
    watched.engine.stop(&id, Duration::ZERO).await.unwrap();
    assert_eq!(watched.start(&wanted).await, id, "after it has ended");
    assert!(watched.engine.inspect(&id).await.unwrap().unwrap().state.is_running());
    watched.clean().await;
}

pub async fn a_second_watcher_begins_with_the_whole_list(bench: &impl Bench) {
    let mut watched = Watched::new(bench.engine()).await;
    let id = watched.start(&new(bench.runs())).await;
    let mut second = Watched::new(bench.engine()).await;
    watched.engine.stop(&id, Duration::ZERO).await.unwrap();
    second.until_state(&id, |state| matches!(state, ContainerState::Exited { .. })).await;
    watched.clean().await;
}

pub async fn output_is_told_from_the_tail_and_followed_to_the_end(bench: &impl Bench) {
    let mut watched = Watched::new(bench.engine()).await;
    let wanted = new(bench.chats());
    let id = watched.start(&wanted).await;
    bench.chat(wanted.placement);
    let request =
        |follow, tail| LogsRequest { placement: PlacementId(0), tail, since_unix: None, follow, timestamps: false };
    let whole = eventually(|| async {
        let text = read(&*watched.engine, &id, &request(false, None)).await;
        text.contains("web: line 2\n").then_some(text)
    })
    .await;
    assert!(whole.contains("web: line 1\n"), "{whole}");
    let tail = read(&*watched.engine, &id, &request(false, Some(1))).await;
    assert_eq!(tail.lines().count(), 1, "{tail}");

    let (sender, mut chunks) = mpsc::channel(4);
    let engine = bench.engine();
    let followed = tokio::spawn({
        let id = id.clone();
        let request = request(true, None);
        async move { engine.logs(&id, &request, sender).await }
    });
    assert!(chunks.recv().await.is_some());
    watched.engine.stop(&id, Duration::from_secs(10)).await.unwrap();
    while chunks.recv().await.is_some() {}
    followed.await.unwrap().unwrap();
    watched.clean().await;
}

async fn read<E: Engine>(engine: &E, id: &outrigger_agent::engine::ContainerId, request: &LogsRequest) -> String {
    let (sender, mut chunks) = mpsc::channel::<LogChunk>(4);
    let collect = async {
        let mut text = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            text.extend(chunk.bytes);
        }
        String::from_utf8(text).unwrap()
    };
    let (done, text) = tokio::join!(engine.logs(id, request, sender), collect);
    done.unwrap();
    text
}

/// A network of the fleet that this engine does not have yet.
fn new_network(name: &str, base: [u8; 4]) -> NewNetwork {
    let spec = NetworkSpec { name: name.parse().unwrap(), internal: false, ipv6: false };
    NewNetwork { spec, fleet: FleetId(0xf1ee7), v4: pool::v4(base.into()), v6: None }
}

pub async fn a_network_is_made_found_again_joined_and_removed_once_it_is_empty(bench: &impl Bench) {
    let mut watched = Watched::new(bench.engine()).await;
    let engine = bench.engine();
    let (front, back) = (new_network("bench_front", [10, 199, 0, 0]), new_network("bench_back", [10, 199, 8, 0]));
    let made = engine.create_network(&front).await.unwrap();
    let other = engine.create_network(&back).await.unwrap();
    assert_eq!((&made.spec, made.v4), (&front.spec, front.v4));
    let all = engine.networks().await.unwrap();
    assert!(all.ours.contains(&made) && all.ours.contains(&other), "{:?}", all.ours);
    assert!(all.taken.contains(&(front.v4.base.into(), front.v4.prefix)), "{:?}", all.taken);
    let clashing = engine.create_network(&new_network("bench_other", [10, 199, 0, 0])).await;
    assert!(matches!(clashing, Err(EngineError::AddressesTaken { .. })), "{clashing:?}");

    let attachment = |network: &NewNetwork| Attachment { network: network.spec.name.clone(), aliases: vec![] };
    let networks = vec![attachment(&front), attachment(&back)];
    let id = watched.start(&new(ContainerSpec { networks, ..bench.runs() })).await;
    let told = watched.until_state(&id, |state| state.is_running()).await;
    for network in [&made, &other] {
        let joined = told.joined.iter().find(|one| one.network.as_ref() == Some(&network.spec.name)).unwrap();
        let [IpAddr::V4(address)] = joined.addresses[..] else { panic!("{joined:?}") };
        assert!((network.v4.gateway..network.v4.virtual_base).contains(&address), "{address}: not of the lower half");
    }
    assert!(engine.remove_network(&made.id).await.is_err(), "a container is in it");
    engine.remove(&id).await.unwrap();
    for network in [&made, &other, &made] {
        engine.remove_network(&network.id).await.unwrap();
    }
    assert!(engine.networks().await.unwrap().ours.iter().all(|one| one.id != made.id && one.id != other.id));
    watched.clean().await;
}

pub async fn a_container_whose_network_is_missing_is_not_made_and_leaves_nothing_behind(bench: &impl Bench) {
    let engine = bench.engine();
    let there = engine.create_network(&new_network("bench_there", [10, 199, 16, 0])).await.unwrap();
    let attachment = |name: &str| Attachment { network: name.parse().unwrap(), aliases: vec![] };
    for networks in [vec!["bench_nowhere"], vec!["bench_there", "bench_nowhere"]] {
        let networks = networks.into_iter().map(attachment).collect();
        let wanted = new(ContainerSpec { networks, ..bench.runs() });
        let refused = engine.create_and_start(&wanted).await;
        assert!(matches!(refused, Err(EngineError::NetworkNotFound { .. })), "{refused:?}");
        assert!(engine.list().await.unwrap().iter().all(|one| one.placement != wanted.placement));
    }
    engine.remove_network(&there.id).await.unwrap();
}

/// All of them, as tests of a program that has a function `bench()`.
#[macro_export]
macro_rules! engine_facts {
    ($test:meta) => {
        $crate::engine_facts! { $test,
            a_started_container_runs_and_is_known_by_its_labels
            a_stopped_container_has_ended_and_a_removed_one_is_gone
            a_crash_is_told_with_its_code_and_the_container_starts_again
            a_kill_for_memory_is_told_apart_from_a_crash
            health_is_told_when_it_changes
            a_missing_image_is_told_and_its_pull_keeps_the_reason
            a_present_image_has_a_digest
            a_taken_port_is_told_and_leaves_nothing_behind
            an_open_port_without_a_number_gets_one
            a_container_that_cannot_start_leaves_nothing_behind
            a_leftover_of_the_same_placement_is_taken_over
            a_second_watcher_begins_with_the_whole_list
            output_is_told_from_the_tail_and_followed_to_the_end
            a_network_is_made_found_again_joined_and_removed_once_it_is_empty
            a_container_whose_network_is_missing_is_not_made_and_leaves_nothing_behind
        }
    };
    ($test:meta, $($fact:ident)*) => { $(
        #[$test]
        async fn $fact() {
            engine_common::facts::$fact(&bench().await).await;
        }
    )* };
}
