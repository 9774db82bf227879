//! `ps`: where each copy runs and how it is.

use outrigger_api::{PlacedCopy, Replica, ReplicaList, ReplicaQuery};

use super::{devices, words};
use crate::args::Ps;
use crate::style::Tone;
use crate::table::{Cell, Table};
use crate::{Client, Exit, Failure, Output, amounts, resolve, row};

pub(crate) fn run(client: &Client, args: &Ps, out: &mut Output) -> Result<Exit, Failure> {
    let mut query = ReplicaQuery { device: args.device.clone(), ..ReplicaQuery::default() };
    if let Some(of) = &args.of {
        narrow(client, of, &mut query)?;
    }
    let list = client.replicas(&query)?;
    out.answer(&list, names, |list, look| look.table(&table(&list.replicas)))?;
    devices::tell_safe_mode(client, out);
    Ok(Exit::Ok)
}

/// A stack is meant where a stack and a service have the name: the service can be named `stack/service` too.
fn narrow(client: &Client, of: &str, query: &mut ReplicaQuery) -> Result<(), Failure> {
    if !of.contains('/') && client.stacks()?.stacks.iter().any(|stack| stack.name == of) {
        query.stack = Some(of.to_owned());
    } else {
        query.service = Some(resolve::service(client, of).map_err(|failure| match failure {
            Failure::NotFound { name, hint, .. } => Failure::NotFound { what: "stack or service", name, hint },
            other => other,
        })?);
    }
    Ok(())
}

fn names(list: &ReplicaList) -> Vec<String> {
    list.replicas.iter().map(|replica| replica.name.clone()).collect()
}

fn table(replicas: &[Replica]) -> Table {
    let mut table = Table::new(["REPLICA", "STATE", "DEVICE", "SINCE", "RESTARTS", "PORTS", "IMAGE", "DETAIL"]);
    for replica in replicas {
        let (device, restarts, ports, image) = match &replica.copy {
            Some(copy) => (copy.device.as_str(), copy.restarts, words::ports(&copy.ports), image_of(copy)),
            None => ("", 0, String::new(), String::new()),
        };
        table.push(row![
            &replica.name,
            words::replica_progress(replica),
            device,
            replica.since_s.map(amounts::age).unwrap_or_default(),
            words::unless_zero(restarts, Tone::Warning),
            ports,
            image,
            words::detail(replica),
        ]);
        for other in &replica.others {
            let (_, word) = words::replica_state(other.state);
            table.push(row![
                Cell::toned(Tone::Dim, "  other copy"),
                Cell::toned(Tone::Dim, word),
                Cell::toned(Tone::Dim, &other.device),
                "",
                "",
                Cell::toned(Tone::Dim, words::ports(&other.ports)),
                Cell::toned(Tone::Dim, image_of(other)),
                Cell::toned(Tone::Dim, other.detail.as_deref().unwrap_or_default()),
            ]);
        }
    }
    table
}

fn image_of(copy: &PlacedCopy) -> String {
    copy.image.clone().unwrap_or_else(|| format!("revision {}", copy.revision))
}

#[cfg(test)]
mod tests {
    use outrigger_api::{Port, Pull, ReplicaState};

    use super::*;
    use crate::commands::samples;
    use crate::output::Look;

    #[test]
    fn each_copy_has_a_line_and_pending_ones_say_why() {
        let mut pulling = samples::replica("shop/web.2", ReplicaState::Pulling, "pi-2");
        let copy = pulling.copy.as_mut().unwrap();
        copy.pull = Some(Pull { done_bytes: 45, total_bytes: 100 });
        copy.restarts = 3;
        let mut running = samples::replica("shop/web.1", ReplicaState::Running, "pi-1");
        running.copy.as_mut().unwrap().ports = vec![Port { container: 80, host: 8080, protocol: "tcp".into() }];
        running.others = vec![samples::copy("pi-9", ReplicaState::Lost)];
        let replicas = [running, pulling, samples::pending("shop/web.3", "no device has two cameras")];
        let expected = "\
REPLICA        STATE         DEVICE   SINCE   RESTARTS   PORTS          IMAGE   DETAIL
shop/web.1     running       pi-1     1m                 8080->80/tcp   web:1
  other copy   lost          pi-9                                       web:1
shop/web.2     pulling 45%   pi-2     1m      3                         web:1
shop/web.3     pending                                                          no device has two cameras";
        assert_eq!(Look::PLAIN.table(&table(&replicas)).join("\n"), expected);
    }
}
