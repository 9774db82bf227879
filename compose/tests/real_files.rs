//! Files as people have them, read as a whole.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use outrigger_compose::{Outcome, Sources, load, references};
use outrigger_protocol::{
    Arch, Bytes, ConstraintKey, HealthcheckTest, LossPolicy, MilliCpu, Mode, MountKind, Order, RestartCondition,
    ServiceSpec, VolumeMove,
};

fn sources(text: &str) -> Sources {
    Sources::of("compose.yaml", text)
}

fn shown(outcome: &Outcome) -> Vec<String> {
    outcome.diagnostics.iter().map(ToString::to_string).collect()
}

fn service<'o>(outcome: &'o Outcome, name: &str) -> &'o ServiceSpec {
    let stack = outcome.stack.as_ref().unwrap_or_else(|| panic!("{:#?}", shown(outcome)));
    stack.services.iter().find(|service| service.name.as_str() == name).unwrap()
}

fn variable(service: &ServiceSpec, name: &str) -> Option<String> {
    service.container.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

#[test]
fn nextcloud_keeps_its_templates_its_env_files_and_its_defaults() {
    let text = include_str!("files/nextcloud.yaml");
    let wanted = references(text);
    assert_eq!(wanted.files.iter().collect::<Vec<_>>(), ["db.env"]);
    assert_eq!(wanted.optional_files.iter().collect::<Vec<_>>(), ["./local.env", ".env"]);
    assert_eq!(wanted.variables.iter().collect::<Vec<_>>(), ["NEXTCLOUD_VERSION", "OVERWRITEPROTOCOL"]);

    let mut sources = sources(text);
    let db = "# the database\nMARIADB_PASSWORD='p$w'\nMARIADB_AUTO_UPGRADE=0\n".to_owned();
    sources.files.insert("db.env".to_owned(), db);
    sources.files.insert(".env".to_owned(), "NEXTCLOUD_VERSION=30\n".to_owned());
    let outcome = load(None, &sources);
    assert_eq!(shown(&outcome), [""; 0]);
    assert_eq!(outcome.stack.as_ref().unwrap().name.as_str(), "cloud");

    let db = service(&outcome, "db");
    let expected = ["--transaction-isolation=READ-COMMITTED", "--log-bin=binlog", "--binlog-format=ROW"];
    assert_eq!(db.container.command.as_deref().unwrap(), expected);
    assert_eq!(variable(db, "MARIADB_PASSWORD").as_deref(), Some("p$w"));
    assert_eq!(variable(db, "MARIADB_AUTO_UPGRADE").as_deref(), Some("1"), "the service wins over its file");
    assert_eq!(db.container.limits.memory, Some(Bytes(1 << 30)));
    assert_eq!(db.reservation.memory, Bytes(256 << 20));
    assert_eq!(db.constraints[0].key, ConstraintKey::NodeLabel("disk".to_owned()));
    let log = db.container.logging.as_ref().unwrap();
    assert_eq!((log.driver.as_str(), log.options.len()), ("json-file", 2));
    let health = db.container.healthcheck.as_ref().unwrap();
    assert_eq!(health.start_period, Some(Duration::from_secs(60)));

    let app = service(&outcome, "app");
    assert_eq!(app.container.image, "nextcloud:30");
    assert_eq!(app.container.stop_grace, Duration::from_secs(90));
    assert_eq!(app.depends_on.len(), 2);
    assert_eq!(variable(app, "OVERWRITEPROTOCOL"), None, "the caller has no such variable");
    let volume = MountKind::Volume { name: "cloud_nextcloud".to_owned(), driver: None, options: vec![] };
    assert_eq!(app.container.mounts[0].kind, volume);
    assert_eq!(app.container.mounts[1].kind, MountKind::Bind { source: "/srv/photos".to_owned(), create: true });
    assert!(app.container.mounts[1].read_only);
    assert_eq!(service(&outcome, "cron").container.entrypoint.as_deref().unwrap(), ["/cron.sh"]);
    assert_eq!(service(&outcome, "redis").container.command.as_ref().unwrap()[2], "");
}

#[test]
fn home_assistant_keeps_its_stick_and_says_what_happens_on_loss() {
    let outcome = load(None, &sources(include_str!("files/home-assistant.yaml")));
    assert_eq!(
        shown(&outcome),
        [
            "compose.yaml:4:5: warning: services.homeassistant.container_name: ignored: containers are named after stack, \
          service and number"
        ]
    );
    let assistant = service(&outcome, "homeassistant");
    assert!(assistant.container.privileged);
    assert_eq!(assistant.container.network_mode.as_deref(), Some("host"));
    assert_eq!(assistant.loss, LossPolicy::Wait);
    let zigbee = service(&outcome, "zigbee2mqtt");
    assert_eq!(zigbee.loss, LossPolicy::Exclusive { lease: Duration::from_secs(20) });
    assert_eq!(zigbee.lost_after, Some(Duration::from_secs(5)));
    assert_eq!(zigbee.container.user.as_deref(), Some("1000:1000"));
    assert_eq!(zigbee.container.devices[0].container, "/dev/ttyACM0");
    let check = service(&outcome, "mosquitto").container.healthcheck.clone().unwrap();
    assert_eq!(check.test, HealthcheckTest::Shell("mosquitto_sub -t '$SYS/#' -C 1 -i healthcheck -W 3".to_owned()));
    let red = service(&outcome, "node-red");
    assert_eq!(variable(red, "NODE_RED_ENABLE_SAFE_MODE").as_deref(), Some("false"));
    assert_eq!(outcome.missing.variables.iter().collect::<Vec<_>>(), ["FLOWS"]);
    assert_eq!(red.spread, [ConstraintKey::NodeLabel("room".to_owned())]);
    assert_eq!(red.max_per_device, Some(1));
    let volume = MountKind::Volume { name: "node-red".to_owned(), driver: None, options: vec![] };
    assert_eq!(red.container.mounts[0].kind, volume);
}

#[test]
fn whoami_runs_three_copies_in_a_network_of_its_own() {
    let outcome = load(Some("web".parse().unwrap()), &sources(include_str!("files/whoami.yaml")));
    assert_eq!(shown(&outcome), Vec::<String>::new());
    let traefik = service(&outcome, "traefik");
    let ports: Vec<_> = traefik.container.ports.iter().map(|port| (port.host, port.container)).collect();
    assert_eq!(ports, [(Some(80), 80), (Some(8080), 8080)]);
    assert_eq!(traefik.container.ports[1].address, Some("127.0.0.1".parse().unwrap()));
    let whoami = service(&outcome, "whoami");
    assert_eq!(whoami.mode, Mode::Replicated(3));
    assert_eq!(whoami.container.labels[1].1, "Host(`whoami.localhost`)");
    assert_eq!(whoami.labels, [("team".to_owned(), "web".to_owned())]);
    assert_eq!((whoami.update.order, whoami.update.delay), (Order::StartFirst, Duration::from_secs(5)));
    assert_eq!(whoami.container.limits.cpu, Some(MilliCpu(500)));
    assert_eq!(whoami.container.limits.pids, Some(100));
    assert_eq!(whoami.reservation.cpu, MilliCpu(250));
    let restart = whoami.container.restart;
    assert_eq!((restart.condition, restart.max_attempts), (RestartCondition::OnFailure, Some(3)));
    assert_eq!((restart.delay, restart.window), (Some(Duration::from_secs(5)), Some(Duration::from_secs(120))));
}

#[test]
fn gitea_extends_a_database_of_another_file_in_another_folder() {
    let mut sources = sources(include_str!("files/gitea.yaml"));
    let name = Some("git".parse().unwrap());
    let first = load(name.clone(), &sources);
    assert_eq!(first.stack, None);
    assert_eq!(first.missing.files.iter().collect::<Vec<_>>(), ["common/postgres.yaml"]);
    assert_eq!(
        shown(&first),
        [
            "compose.yaml:3:12: error: services.server.image: the variable `GITEA_TAG` is required: choose a release",
            "compose.yaml:10:9: error: services.server.environment[5]: the variable `DB_PASSWORD` is required: it has no value",
            "compose.yaml:27:13: error: services.db.extends.file: the file `common/postgres.yaml` was not sent along or does \
             not exist",
            "compose.yaml:31:9: error: services.db.environment[1]: the variable `DB_PASSWORD` is required: it has no value",
        ]
    );

    sources.files.insert("common/postgres.yaml".to_owned(), include_str!("files/postgres.yaml").to_owned());
    sources.variables.insert("GITEA_TAG".to_owned(), "1.22".to_owned());
    sources.variables.insert("DB_PASSWORD".to_owned(), "s3cret".to_owned());
    let second = load(name.clone(), &sources);
    assert_eq!(
        shown(&second),
        [
            "common/postgres.yaml:5:15: error: services.db.env_file: the file `postgres.env` was not sent along or does not \
          exist; write `required: false` if it need not exist"
        ]
    );
    assert_eq!(second.missing.files.iter().collect::<Vec<_>>(), ["common/postgres.env"]);

    sources.files.insert("common/postgres.env".to_owned(), "PGTZ=UTC".to_owned());
    let outcome = load(name, &sources);
    assert_eq!(shown(&outcome), [""; 0]);
    let db = service(&outcome, "db");
    assert_eq!(db.container.image, "postgres:16-alpine");
    let environment: Vec<_> = db.container.environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(environment, ["PGTZ=UTC", "POSTGRES_DB=gitea", "POSTGRES_PASSWORD=s3cret", "POSTGRES_USER=gitea"]);
    assert_eq!(db.container.mounts.len(), 2);
    let MountKind::Volume { name, driver, options } = &db.container.mounts[0].kind else { panic!() };
    assert_eq!((name.as_str(), driver.as_deref(), options.len()), ("git_postgres", Some("local"), 3));
    assert_eq!(db.container.mounts[1].kind, MountKind::Tmpfs { size: Some(Bytes(16 << 20)), mode: Some(0o775) });
    assert_eq!(db.container.shm_size, Some(Bytes(128 << 20)));
    let check = db.container.healthcheck.as_ref().unwrap();
    assert_eq!(check.test, HealthcheckTest::Shell("pg_isready -U ${POSTGRES_USER}".to_owned()));
    let server = service(&outcome, "server");
    let limits: Vec<_> =
        server.container.ulimits.iter().map(|limit| (limit.name.as_str(), limit.soft, limit.hard)).collect();
    assert_eq!(limits, [("nofile", 20000, 40000), ("nproc", 65535, 65535)]);
}

#[test]
fn monitoring_is_refused_for_what_it_would_lose_and_all_of_it_is_told() {
    let text = include_str!("files/monitoring.yaml");
    let outcome = load(None, &sources(text));
    assert_eq!(outcome.stack, None);
    assert_eq!(
        shown(&outcome),
        [
            "compose.yaml:25:5: error: services.node-exporter.pid: not supported yet: containers have a process namespace of \
             their own",
            "compose.yaml:28:9: warning: services.node-exporter.volumes[0]: the mode `rslave` is ignored",
            "compose.yaml:55:18: error: secrets.admin.file: the file `./admin.txt` was not sent along or does not exist; for \
             one that only the hub keeps write `external: true`, and set it with `outrigger secret set`",
            "compose.yaml:57:24: error: configs.datasources.file: the file `./ds.yml` was not sent along or does not exist; \
             for one that only the hub keeps write `external: true`, and set it with `outrigger secret set`",
        ]
    );
    let mut whole = sources(&text.replace("    pid: host\n", ""));
    whole.files.insert("admin.txt".to_owned(), "hunter2".to_owned());
    whole.files.insert("ds.yml".to_owned(), "a: 1".to_owned());
    let outcome = load(None, &whole);
    let targets: Vec<_> = service(&outcome, "grafana").container.files.iter().map(|one| one.target.as_str()).collect();
    assert_eq!(targets, ["/run/secrets/admin", "/etc/grafana/provisioning/datasources/ds.yml"]);
    assert_eq!(service(&outcome, "node-exporter").mode, Mode::Global);
    let prometheus = service(&outcome, "prometheus");
    assert_eq!(prometheus.volume_move, VolumeMove::Allow);
    assert_eq!(prometheus.constraints[0].value, Arch::ArmV6.to_string());
    assert_eq!(prometheus.constraints[1].key, ConstraintKey::Name);
    let host = ("host.docker.internal".to_owned(), "host-gateway".to_owned());
    assert_eq!(prometheus.container.extra_hosts, [host]);
    let inference = service(&outcome, "inference");
    assert_eq!(inference.container.gpus[0].driver.as_deref(), Some("nvidia"));
    let generic: Vec<_> = inference.reservation.generic.iter().map(|one| (one.kind.as_str(), one.count)).collect();
    assert_eq!(generic, [("camera", 2), ("gpu", 1)]);
}
