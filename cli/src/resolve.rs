//! From what the user calls a thing to its full name: `web` is enough where only one stack has it.

use outrigger_api::Service;

use crate::{Client, Failure};

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A service, such as `shop/web`.
    Service(String),
    /// A replica, such as `shop/web.2`.
    Replica {
        /// Its name.
        name: String,
        /// Its service.
        service: String,
    },
}

impl Target {
    /// The service, or that of the replica.
    pub fn service(&self) -> &str {
        match self {
            Self::Service(service) | Self::Replica { service, .. } => service,
        }
    }
}

/// The full name of a service that the hub has.
pub(crate) fn service(client: &Client, text: &str) -> Result<String, Failure> {
    service_among(&client.services()?.services, text)
}

/// The service or replica that is meant.
pub(crate) fn target(client: &Client, text: &str) -> Result<Target, Failure> {
    target_among(&client.services()?.services, text)
}

/// As [`service`], among these.
pub(crate) fn service_among(services: &[Service], text: &str) -> Result<String, Failure> {
    match matching(services, text).as_slice() {
        [one] => Ok(one.name.clone()),
        [] => Err(no_service("service", text)),
        several => Err(ambiguous(text, several.iter().map(|service| service.name.clone()).collect())),
    }
}

/// As [`target`], among these. A service wins over a replica, as service names may end in a number too.
pub(crate) fn target_among(services: &[Service], text: &str) -> Result<Target, Failure> {
    if !matching(services, text).is_empty() {
        return service_among(services, text).map(Target::Service);
    }
    let Some((service, number)) = text.rsplit_once('.').filter(|(_, number)| is_replica_number(number)) else {
        return Err(no_service("service or replica", text));
    };
    match matching(services, service).as_slice() {
        [one] => Ok(Target::Replica { name: format!("{}.{number}", one.name), service: one.name.clone() }),
        [] => Err(no_service("service or replica", text)),
        several => Err(ambiguous(text, several.iter().map(|service| format!("{}.{number}", service.name)).collect())),
    }
}

fn matching<'a>(services: &'a [Service], text: &str) -> Vec<&'a Service> {
    let is_meant = |service: &&Service| match service.name.split_once('/') {
        Some((_, short)) if !text.contains('/') => short == text,
        Some(_) | None => service.name == text,
    };
    services.iter().filter(is_meant).collect()
}

fn is_replica_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|number| number > 0)
}

fn no_service(what: &'static str, text: &str) -> Failure {
    Failure::NotFound { what, name: text.into(), hint: "`outrigger ps` lists what there is".into() }
}

fn ambiguous(text: &str, names: Vec<String>) -> Failure {
    Failure::Usage {
        message: format!("`{text}` is in several stacks: {}", names.join(", ")),
        hint: "say which, with its stack".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples;

    fn services() -> Vec<Service> {
        ["shop/web", "shop/db", "blog/web", "shop/api.2"].map(samples::service).to_vec()
    }

    #[test]
    fn a_short_name_is_enough_where_only_one_stack_has_it() {
        assert_eq!(service_among(&services(), "db").unwrap(), "shop/db");
        assert_eq!(service_among(&services(), "blog/web").unwrap(), "blog/web");
        let failure = service_among(&services(), "web").unwrap_err();
        assert_eq!(failure.to_string(), "`web` is in several stacks: shop/web, blog/web");
        assert!(matches!(service_among(&services(), "nothing"), Err(Failure::NotFound { .. })));
    }

    #[test]
    fn a_number_names_a_replica_unless_a_service_is_called_so() {
        let replica = Target::Replica { name: "shop/db.3".into(), service: "shop/db".into() };
        assert_eq!(target_among(&services(), "db.3").unwrap(), replica);
        assert_eq!(target_among(&services(), "shop/db.3").unwrap(), replica);
        assert_eq!(target_among(&services(), "api.2").unwrap(), Target::Service("shop/api.2".into()));
        for bad in ["db.0", "db.x", "db.", ".3", "db.+1"] {
            assert!(matches!(target_among(&services(), bad), Err(Failure::NotFound { .. })), "{bad}");
        }
        assert!(matches!(target_among(&services(), "web.1"), Err(Failure::Usage { .. })));
    }
}
