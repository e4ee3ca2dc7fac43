//! Changes that commands make of backends: they last until the next reload; what is saved is in the file as well. Whether it can
//! be saved is known before anything changes.
//!
//! The configuration that serves is the text of the file as it was applied with the changes made since, checked as a whole like
//! any file. Whether a backend is drained or disabled stands in no text.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::*;
use crate::admin::{BackendOrder, Caller, Change, Done};
use crate::config::{Backend, Duty, Edit, Replacement, Role, Service, edited, parse_here, read_text};
use crate::drivers::vrrp::{Outcome, StepDown};

/// What commands have changed.
#[derive(Debug, Default)]
pub(super) struct Steering {
    /// The file as it was applied.
    file: String,
    /// What it says.
    base: Option<Arc<Config>>,
    /// Its text with the changes since.
    text: String,
    /// Backends that were taken out, by service and name.
    duties: BTreeMap<(String, String), Duty>,
}

impl Steering {
    /// The file has been applied, with this text and this meaning; whatever commands had changed is undone by that.
    pub(super) fn begin_anew(&mut self, text: String, base: Arc<Config>) {
        *self = Self { file: text.clone(), base: Some(base), text, duties: BTreeMap::new() };
    }

    /// What differs from the file in the configuration that serves, in words.
    pub(super) fn changes(&self, config: &Config) -> Vec<String> {
        let Some(base) = &self.base else {
            return Vec::new();
        };
        let services = config.services.iter().zip(&base.services);
        services.flat_map(|(now, file)| differences(now, file)).collect()
    }

    fn stamp(&self, config: &mut Config) {
        for service in &mut config.services {
            for backend in &mut service.backends {
                let key = (service.name.clone(), backend.name.clone());
                backend.duty = self.duties.get(&key).copied().unwrap_or_default();
            }
        }
    }
}

fn differences(now: &Service, file: &Service) -> Vec<String> {
    let find = |service: &Service, name: &str| service.backends.iter().find(|backend| backend.name == name).cloned();
    let of = |name: &str, what: String| format!("{}/{name} {what}", now.name);
    let mut found = Vec::new();
    for backend in &now.backends {
        match find(file, &backend.name) {
            None => found.push(of(&backend.name, format!("added, {}", backend.shown()))),
            Some(before) if before.address != backend.address => {
                found.push(of(&backend.name, format!("is {} instead of {}", backend.shown(), before.shown())));
            }
            Some(before) if before.weight != backend.weight => {
                found.push(of(&backend.name, format!("has weight {} instead of {}", backend.weight, before.weight)));
            }
            Some(_) => {}
        }
        if backend.duty != Duty::Serving {
            found.push(of(&backend.name, word(backend.duty).to_owned()));
        }
    }
    let gone = file.backends.iter().filter(|backend| find(now, &backend.name).is_none());
    found.extend(gone.map(|backend| of(&backend.name, "removed".to_owned())));
    found
}

fn word(duty: Duty) -> &'static str {
    match duty {
        Duty::Serving => "enabled",
        Duty::Drained => "drained",
        Duty::Disabled => "disabled",
    }
}

/// What a command is about.
struct Found {
    service: String,
    name: String,
}

impl Found {
    fn of<'c>(&self, config: &'c Config) -> Option<&'c Backend> {
        let service = config.services.iter().find(|service| service.name == self.service)?;
        service.backends.iter().find(|backend| backend.name == self.name)
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.service, self.name)
    }
}

/// Finds the service, and the backend where there has to be one.
fn find(config: &Config, order: &BackendOrder) -> Result<Found, String> {
    let name = order.name.clone();
    let new = matches!(order.change, Change::Edit(Edit::Add { .. }));
    let has_it = |service: &&Service| service.backends.iter().any(|backend| backend.name == name);
    let named = |service: &&Service| order.service.as_ref().is_none_or(|named| *named == service.name);
    let services: Vec<_> = config.services.iter().filter(named).collect();
    if let (Some(service), true) = (&order.service, services.is_empty()) {
        let known: Vec<_> = config.services.iter().map(|service| service.name.as_str()).collect();
        return Err(format!("there is no service {service:?}; there is {}", known.join(", ")));
    }
    let candidates: Vec<_> = services.iter().copied().filter(|service| new || has_it(service)).collect();
    match candidates.as_slice() {
        [service] if new && has_it(service) => {
            Err(format!("{}/{name} is there already: remove it first, or choose another name", service.name))
        }
        [service] => Ok(Found { service: service.name.clone(), name }),
        [] => {
            let of = |service: &Service| {
                let names = service.backends.iter().map(|backend| format!("{}/{}", service.name, backend.name));
                names.collect::<Vec<_>>()
            };
            let known: Vec<_> = services.into_iter().flat_map(of).take(16).collect();
            Err(format!("there is no backend {name:?}; there is {}", known.join(", ")))
        }
        several => {
            let forms: Vec<_> = several.iter().map(|service| format!("{}/{name}", service.name)).collect();
            let what = if new { "there are several services" } else { "several services have a backend of this name" };
            Err(format!("{what}: say {}", forms.join(" or ")))
        }
    }
}

/// A service without anybody for new connections is refused; who wants that stops the agent.
fn someone_serves(config: &Config, found: &Found) -> Result<(), Vec<String>> {
    let service = config.services.iter().find(|service| service.name == found.service);
    match service.is_some_and(|service| service.backends.iter().any(|backend| backend.taken_weight() > 0)) {
        true => Ok(()),
        false => Err(vec![format!(
            "no other backend of {} takes connections: enable one, or give one a weight, first",
            found.service
        )]),
    }
}

/// The faults of a text that nobody has as a file: without their places.
fn without_places(error: impl Into<AgentError>) -> Vec<String> {
    match error.into() {
        AgentError::Config(faults) => faults.iter().map(|fault| format!("{}, {}", fault.what, fault.remedy)).collect(),
        other => other.to_string().lines().map(str::to_owned).collect(),
    }
}

impl Agent {
    /// Carries out what a command wants of a backend, and says so.
    pub(super) async fn steer(&mut self, order: BackendOrder) {
        let outcome = match find(&self.config, &order) {
            Err(fault) => Err(vec![fault]),
            Ok(_) if self.config.node.role == Role::Backend => {
                Err(vec!["this node only delivers what balancers forward: give the command on them".to_owned()])
            }
            Ok(found) => match &order.change {
                Change::Drain => self.put(&found, Duty::Drained, &order),
                Change::Disable => self.put(&found, Duty::Disabled, &order),
                Change::Enable => self.put(&found, Duty::Serving, &order),
                Change::Edit(edit) => self.edit(&found, edit, &order).await,
            },
        };
        if let Err(faults) = &outcome {
            warn!(backend = order.name, "{} refused: {}", order.caller, faults.join("; "));
        }
        // What is said to be done is in the tables, and in the status.
        self.pass().await;
        // Whoever asked may be gone; the outcome is in the log and the events too.
        let _ = order.reply.send(outcome);
    }

    fn put(&mut self, found: &Found, duty: Duty, order: &BackendOrder) -> Result<Done, Vec<String>> {
        let backend = found.of(&self.config).cloned();
        let before = backend.as_ref().map(|backend| backend.duty).unwrap_or_default();
        if before == duty {
            if duty == Duty::Serving && backend.is_some_and(|backend| backend.weight == 0) {
                return Err(vec![format!("the weight of {found} is 0: give it one with `xvip backend weight`")]);
            }
            return Ok(format!("{found} is {} already", word(duty)).into());
        }
        let mut duties = self.steering.duties.clone();
        match duty {
            Duty::Serving => duties.remove(&(found.service.clone(), found.name.clone())),
            _ => duties.insert((found.service.clone(), found.name.clone()), duty),
        };
        let mut config = (*self.config).clone();
        let steering = Steering { duties, ..Steering::default() };
        steering.stamp(&mut config);
        if duty != Duty::Serving {
            someone_serves(&config, found)?;
        }
        self.steering.duties = steering.duties;
        self.config = Arc::new(config);
        self.tell(found, word(before), word(duty), order);
        let meaning = match duty {
            Duty::Serving => "it takes new connections while it passes its checks",
            Duty::Drained => "it takes no new connections and keeps those it has",
            Duty::Disabled => "it takes no new connections, and those it has are reset",
        };
        Ok(format!("{found} {} on this node: {meaning}", word(duty)).into())
    }

    async fn edit(&mut self, found: &Found, edit: &Edit, order: &BackendOrder) -> Result<Done, Vec<String>> {
        let change = |text: &str| edited(text, &found.service, &found.name, edit).map_err(|error| error.to_string());
        let saved = if order.save {
            let file = self.file.display();
            if read_text(&self.file).map_err(without_places)? != self.steering.file {
                return Err(vec![format!("{file} has changed since it was loaded: `xvip reload` first")]);
            }
            let text = change(&self.steering.file).map_err(|error| vec![format!("{error} in {file}")])?;
            let loaded = parse_here(&text, &self.file).map_err(without_places)?;
            let interfaces = self.netlink.interfaces().await.map_err(without_places)?;
            loaded.check_host(&interfaces.host_facts()).map_err(without_places)?;
            Some(loaded)
        } else {
            None
        };
        let text = change(&self.steering.text).map_err(|error| vec![error])?;
        let loaded = parse_here(&text, &self.file).map_err(without_places)?;
        let interfaces = self.netlink.interfaces().await.map_err(without_places)?;
        loaded.check_host(&interfaces.host_facts()).map_err(without_places)?;
        let mut config = loaded.config;
        let mut steering = Steering { duties: self.steering.duties.clone(), ..Steering::default() };
        if *edit == Edit::Remove {
            steering.duties.remove(&(found.service.clone(), found.name.clone()));
        }
        steering.stamp(&mut config);
        someone_serves(&config, found)?;
        let before = found.of(&self.config).map(|backend| format!("weight {}", backend.weight)).unwrap_or_default();
        let prepare_file = |loaded: Loaded| {
            let replacement = Replacement::prepare(&self.file, &self.steering.file, &loaded.text);
            replacement.map(|replacement| (loaded, replacement)).map_err(|error| vec![error.to_string()])
        };
        let saved = saved.map(prepare_file).transpose()?;
        self.apply_services(config.services).await.map_err(without_places)?;
        (self.steering.text, self.steering.duties) = (text, steering.duties);
        let to = match edit {
            Edit::Weight(weight) => format!("weight {weight}"),
            Edit::Add { address, .. } => format!("added, {address}"),
            Edit::Remove => "removed".to_owned(),
        };
        self.tell(found, &before, &to, order);
        let Some((loaded, replacement)) = saved else {
            return Ok(format!("{found}: {to}, until the next reload").into());
        };
        let file = self.file.display();
        let warning = match replacement.put() {
            Err(error) => {
                let warning = format!("it is not saved: {error}");
                self.unsaved(found, &warning);
                return Ok(Done { outcome: format!("{found}: {to}, until the next reload"), warning: Some(warning) });
            }
            Ok(doubt) => doubt.map(|error| format!("it is saved, and may be gone after a loss of power: {error}")),
        };
        if let Some(warning) = &warning {
            self.unsaved(found, warning);
        }
        let outcome = format!("{found}: {to}, saved in {file}");
        (self.steering.file, self.steering.base) = (loaded.text, Some(Arc::new(loaded.config)));
        Ok(Done { outcome, warning })
    }

    fn unsaved(&self, found: &Found, what: &str) {
        warn!(service = found.service, backend = found.name, "{what}");
        self.reporter.report(format!("backend {found}"), what.to_owned());
    }

    fn tell(&self, found: &Found, from: &str, to: &str, order: &BackendOrder) {
        let cause = format!("command of {}", order.caller);
        info!(service = found.service, backend = found.name, "backend {to}: {cause}");
        self.reporter.changed(format!("backend {found}"), from, to, &cause);
    }
}

/// An order to hand VIPs over whose outcomes are logged, and among the events, even if nobody waits for them any more.
pub(super) fn told(order: StepDown, caller: Caller, reporter: Reporter) -> StepDown {
    let StepDown { name, hold, reply } = order;
    let (tell, outcomes) = oneshot::channel::<Vec<(String, Outcome)>>();
    tokio::spawn(async move {
        // Without outcomes the agent ends, and whoever waits is told so.
        let Ok(outcomes) = outcomes.await else { return };
        let what = format!("step-down for {} s", hold.as_secs());
        for (router, outcome) in &outcomes {
            let cause = format!("command of {caller}: {outcome}");
            info!(instance = router, "{what}: {cause}");
            reporter.changed(format!("vrrp {router}"), "", &what, &cause);
        }
        let _ = reply.send(outcomes);
    });
    StepDown { name, hold, reply: tell }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, parse};

    fn config(text: &str) -> Config {
        let backend = |name, n| format!("{{ name = \"{name}\", address = \"192.0.2.{n}:1\", weight = 2 }}");
        let file = format!(
            "[node]\nname = \"lb1\"\ninterface = \"eth0\"\n\
             [[service]]\nname = \"api\"\nlisten = \"192.0.2.100:1\"\nbackend = [{}, {}]\n\
             [[service]]\nname = \"etcd\"\nlisten = \"192.0.2.100:2\"\nbackend = [{}]\n{text}",
            backend("a", 1),
            backend("b", 2),
            backend("a", 3),
        );
        parse(&file, "x", &Env::default()).unwrap_or_else(|faults| panic!("{faults}\n{file}")).config
    }

    fn order(service: Option<&str>, name: &str, change: Change) -> BackendOrder {
        let (service, name) = (service.map(str::to_owned), name.to_owned());
        BackendOrder { service, name, change, save: false, caller: Caller::default(), reply: oneshot::channel().0 }
    }

    fn found(order: BackendOrder) -> Result<String, String> {
        find(&config(""), &order).map(|found| found.to_string())
    }

    #[test]
    fn names_are_found_or_asked_back_for() {
        assert_eq!(found(order(None, "b", Change::Drain)).as_deref(), Ok("api/b"));
        assert_eq!(found(order(Some("etcd"), "a", Change::Drain)).as_deref(), Ok("etcd/a"));
        let fault = |order| found(order).unwrap_err();
        assert_eq!(
            fault(order(None, "a", Change::Enable)),
            "several services have a backend of this name: say api/a or etcd/a"
        );
        assert_eq!(fault(order(None, "c", Change::Drain)), "there is no backend \"c\"; there is api/a, api/b, etcd/a");
        assert_eq!(fault(order(Some("dns"), "a", Change::Drain)), "there is no service \"dns\"; there is api, etcd");
        let add =
            || Change::Edit(Edit::Add { address: ([192, 0, 2, 9], 1).into(), weight: None, max_connections: None });
        assert_eq!(found(order(Some("etcd"), "b", add())).as_deref(), Ok("etcd/b"));
        assert_eq!(fault(order(None, "c", add())), "there are several services: say api/c or etcd/c");
        assert!(fault(order(Some("etcd"), "a", add())).starts_with("etcd/a is there already"));
    }

    #[test]
    fn what_differs_from_the_file_is_told() {
        let base = Arc::new(config(""));
        let mut steering = Steering::default();
        assert!(steering.changes(&base).is_empty());
        steering.begin_anew(String::new(), base.clone());
        assert!(steering.changes(&base).is_empty());
        let mut now = (*base).clone();
        now.services[0].backends[0].weight = 7;
        now.services[0].backends[1].duty = Duty::Drained;
        let mut new = now.services[1].backends.remove(0);
        new.name = "z".to_owned();
        now.services[1].backends.push(new);
        assert_eq!(
            steering.changes(&now),
            ["api/a has weight 7 instead of 2", "api/b drained", "etcd/z added, 192.0.2.3:1", "etcd/a removed"]
        );
    }

    #[test]
    fn one_backend_always_serves() {
        let mut config = config("");
        let api = Found { service: "api".to_owned(), name: "a".to_owned() };
        config.services[0].backends[0].duty = Duty::Drained;
        assert_eq!(someone_serves(&config, &api), Ok(()));
        config.services[0].backends[1].weight = 0;
        let fault = someone_serves(&config, &api).unwrap_err();
        assert!(fault[0].starts_with("no other backend of api takes connections"), "{fault:?}");
    }
    #[tokio::test]
    async fn who_had_vips_handed_over_is_told_with_what_came_of_it() {
        use lb_proto::vrrp::State;
        for someone_waits in [true, false] {
            let (reply, outcomes) = oneshot::channel();
            let reporter = Reporter::default();
            let caller = Caller::Local { uid: 1000, pid: Some(7) };
            let order = StepDown { name: None, hold: Duration::from_secs(60), reply };
            let order = told(order, caller, reporter.clone());
            assert_eq!((&order.name, order.hold), (&None, Duration::from_secs(60)));
            let found = vec![
                ("k8s".to_owned(), Outcome::HandedOver { to: [192, 0, 2, 22].into() }),
                ("dns".to_owned(), Outcome::NotTheHolder { state: State::Fault, holder: None }),
            ];
            let waiting = someone_waits.then_some(outcomes);
            order.reply.send(found.clone()).unwrap();
            match waiting {
                Some(outcomes) => assert_eq!(outcomes.await.unwrap(), found),
                None => {
                    while reporter.newest(2).len() < 2 {
                        tokio::task::yield_now().await
                    }
                }
            }
            let events: Vec<_> = reporter.newest(9).into_iter().map(|event| (event.subject, event.text)).collect();
            let of = |router: &str, what: &str| {
                (format!("vrrp {router}"), format!("step-down for 60 s: command of uid 1000 (process 7): {what}"))
            };
            let expected = [of("k8s", "handed over to 192.0.2.22"), of("dns", "this node does not hold it (fault)")];
            assert_eq!(events, expected);
        }
    }
}
