//! The rules in words, for `outrigger-agent doctor` and the log.

use super::Rules;

impl Rules {
    /// What is allowed beyond the default, one line for each key; empty where nothing is.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let texts = |list: &[super::Pattern]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let flags = [
            ("privileged", self.privileged),
            ("gpus", self.gpus),
            ("exec", self.exec),
            ("self_update", self.self_update),
        ];
        let lists = [
            ("host", self.host.iter().map(|host| host.word().to_owned()).collect()),
            ("capabilities", self.capabilities.clone()),
            ("binds", self.binds.iter().map(ToString::to_string).collect()),
            ("devices", texts(&self.devices)),
            ("sysctls", texts(&self.sysctls)),
            ("ulimits", self.ulimits.clone()),
            ("security_options", texts(&self.security_options)),
            ("runtimes", self.runtimes.clone()),
            ("cgroup_parents", texts(&self.cgroup_parents)),
            ("volume_drivers", self.volume_drivers.clone()),
            ("volumes", texts(&self.volumes)),
            ("log_drivers", self.log_drivers.clone()),
            ("images", texts(&self.images)),
        ];
        let flags = flags.into_iter().filter(|(_, on)| *on).map(|(key, _)| key.to_owned());
        let lists = lists.into_iter().filter(|(_, list): &(_, Vec<String>)| !list.is_empty());
        flags.chain(lists.map(|(key, list)| format!("{key}: {}", list.join(", ")))).collect()
    }
}
