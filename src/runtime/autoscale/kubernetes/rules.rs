//! Which Deployment belongs to which function, how many pods it should have, and when that is to be set. Nothing here asks
//! anybody.

use crate::runtime::autoscale::board::Standing;
use std::time::Duration;

/// On a Deployment: whose workers its pods are, `namespace/name`. As everywhere, `default/` need not be said.
pub const ANNOTATION: &str = "tidemill.dev/function";

/// A Deployment with the annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// `namespace/name`.
    pub function: String,
    /// Pods that it is to have.
    pub replicas: u32,
    /// Pods that are ready.
    pub ready: u32,
    /// Who wrote last how many there are to be, by the name that it gave the API server, which does not keep that of everyone
    /// who uses the scale subresource.
    pub set_by: Option<String>,
}

/// Who holds the number of a Deployment's pods too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The Deployment.
    pub deployment: String,
    /// The HorizontalPodAutoscaler, and what it was made by.
    pub name: String,
}

/// The name of the function that an annotation says.
pub fn function_of(annotation: &str) -> String {
    if annotation.contains('/') { annotation.to_owned() } else { format!("default/{annotation}") }
}

/// The one Deployment of a function, if nobody else holds it; else what to do.
pub fn claim(function: &str, deployments: &[Deployment], holders: &[Holder]) -> Result<Deployment, String> {
    let own: Vec<&Deployment> =
        deployments.iter().filter(|deployment| deployment.function == function).collect();
    let deployment = match own[..] {
        [one] => one,
        [] => {
            return Err(format!(
                "no Deployment has the annotation `{ANNOTATION}: {function}`: set it on one"
            ));
        }
        _ => {
            let names: Vec<&str> = own.iter().map(|deployment| deployment.name.as_str()).collect();
            let names = names.join(", ");
            return Err(format!(
                "the Deployments {names} have the annotation of this function: leave it on one"
            ));
        }
    };
    match holders.iter().find(|holder| holder.deployment == deployment.name) {
        None => Ok(deployment.clone()),
        Some(holder) => Err(format!(
            "the Deployment {} is held by the {} too, and one alone may hold it: delete that, or take the annotation \
             `{ANNOTATION}` away",
            deployment.name, holder.name
        )),
    }
}

/// How many pods a function should have; `None`: leave it as it is, because that was not decided, was decided long ago, or
/// was decided before something that could not be looked at.
pub fn pods(standing: &Standing, now: Duration, workers_per_pod: u32) -> Option<u32> {
    let workers = standing.believed(now).ok().filter(|_| standing.problem.is_none())?;
    Some(workers.div_ceil(workers_per_pod.max(1)))
}

/// A number that somebody else put in the place of this one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overruled {
    /// What it was.
    pub from: u32,
    /// What it became.
    pub to: u32,
}

/// What is known of a function's Deployment.
#[derive(Debug)]
pub struct Keeper {
    /// `namespace/name`.
    pub function: String,
    /// As it was seen or set last, or why it is not held.
    pub seen: Result<Deployment, String>,
    /// How often somebody else changed what was held.
    pub overruled: u32,
    /// What was set, or was as wanted.
    held: Option<u32>,
}

impl Keeper {
    /// Nothing was looked at yet.
    pub fn new(function: String) -> Self {
        Self { function, seen: Err("the first look is not over".to_owned()), overruled: 0, held: None }
    }

    /// Takes in what was looked at, and says whether somebody else changed what was held.
    pub fn see(&mut self, claimed: Result<Deployment, String>) -> Option<Overruled> {
        let held = self.held.take();
        self.seen = claimed;
        let to = self.seen.as_ref().ok()?.replicas;
        let from = held.filter(|held| *held != to);
        self.held = held.filter(|held| *held == to);
        self.overruled += u32::from(from.is_some());
        from.map(|from| Overruled { from, to })
    }

    /// The Deployment that is to have another number of pods.
    pub fn change_to(&mut self, wanted: Option<u32>) -> Option<(String, u32)> {
        let (deployment, wanted) = (self.seen.as_ref().ok()?, wanted?);
        if deployment.replicas == wanted {
            self.held = Some(wanted);
            return None;
        }
        Some((deployment.name.clone(), wanted))
    }

    /// It was set. Returns what it was before.
    pub fn was_set(&mut self, replicas: u32) -> Option<u32> {
        self.held = Some(replicas);
        self.seen.as_mut().ok().map(|deployment| std::mem::replace(&mut deployment.replicas, replicas))
    }

    /// It is not held: until the next look nothing is set.
    pub fn fail(&mut self, problem: String) {
        self.seen = Err(problem);
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIDES: &str = "default/rides";

    fn deployment(name: &str, function: &str, replicas: u32) -> Deployment {
        let function = function_of(function);
        Deployment { name: name.to_owned(), function, replicas, ready: 0, set_by: None }
    }

    fn holder(deployment: &str) -> Holder {
        Holder { deployment: deployment.to_owned(), name: "HorizontalPodAutoscaler it".to_owned() }
    }

    fn decided(workers: u32) -> Standing {
        Standing { desired: Some(workers), decided_at: Duration::from_secs(100), ..Standing::default() }
    }

    #[test]
    fn a_function_has_the_one_deployment_that_names_it() {
        let all = [deployment("a", "rides", 1), deployment("b", "shop/rides", 2), deployment("c", "x", 3)];
        assert_eq!(claim(RIDES, &all, &[]), Ok(all[0].clone()), "`default` need not be said");
        assert_eq!(claim("shop/rides", &all, &[]), Ok(all[1].clone()));
        let none = claim("default/y", &all, &[]).unwrap_err();
        assert!(none.contains("`tidemill.dev/function: default/y`"), "{none}");
        let two = claim(RIDES, &[all[0].clone(), deployment("d", RIDES, 1)], &[]).unwrap_err();
        assert!(two.contains("a, d"), "{two}");
    }

    #[test]
    fn what_another_holds_is_refused() {
        let all = [deployment("a", "rides", 1), deployment("b", "shop/rides", 2)];
        let refused = claim(RIDES, &all, &[holder("a")]).unwrap_err();
        assert!(refused.contains("HorizontalPodAutoscaler it") && refused.contains("delete"), "{refused}");
        assert!(claim("shop/rides", &all, &[holder("a")]).is_ok());
    }

    #[test]
    fn pods_are_as_many_as_the_workers_fill() {
        let now = Duration::from_secs(101);
        for (workers, per_pod, expected) in
            [(0, 1, 0), (1, 1, 1), (5, 1, 5), (0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2)]
        {
            assert_eq!(pods(&decided(workers), now, per_pod), Some(expected), "{workers} of {per_pod}");
        }
    }

    #[test]
    fn what_was_not_looked_at_is_left_as_it_is() {
        let now = Duration::from_secs(101);
        assert_eq!(pods(&Standing::default(), now, 1), None, "nothing is decided");
        let blind = Standing { problem: Some("nobody answers".to_owned()), ..decided(0) };
        assert_eq!(pods(&blind, now, 1), None);
        assert_eq!(pods(&decided(0), Duration::from_secs(160), 1), Some(0));
        assert_eq!(pods(&decided(0), Duration::from_secs(161), 1), None, "decided long ago");
    }

    #[test]
    fn only_another_number_is_set() {
        let mut keeper = Keeper::new(RIDES.to_owned());
        assert_eq!(keeper.change_to(Some(1)), None, "not looked at yet");
        keeper.see(Ok(deployment("a", RIDES, 1)));
        assert_eq!(keeper.change_to(None), None, "not decided");
        assert_eq!(keeper.change_to(Some(1)), None);
        assert_eq!(keeper.change_to(Some(3)), Some(("a".to_owned(), 3)));
        assert_eq!(keeper.was_set(3), Some(1));
        assert_eq!(keeper.change_to(Some(3)), None);
        assert_eq!(keeper.change_to(Some(0)), Some(("a".to_owned(), 0)));
        keeper.fail("forbidden".to_owned());
        assert_eq!(keeper.change_to(Some(0)), None, "not before the next look");
    }

    #[test]
    fn what_somebody_else_changes_is_noticed_and_set_again() {
        let mut keeper = Keeper::new(RIDES.to_owned());
        let look = |keeper: &mut Keeper, replicas| keeper.see(Ok(deployment("a", RIDES, replicas)));
        assert_eq!(look(&mut keeper, 1), None);
        assert_eq!(look(&mut keeper, 4), None, "nothing was held");
        keeper.change_to(Some(4));
        assert_eq!(look(&mut keeper, 4), None);
        assert_eq!(look(&mut keeper, 9), Some(Overruled { from: 4, to: 9 }));
        assert_eq!(look(&mut keeper, 9), None, "noticed already");
        assert_eq!(keeper.change_to(Some(4)), Some(("a".to_owned(), 4)));
        keeper.was_set(4);
        assert_eq!(look(&mut keeper, 0), Some(Overruled { from: 4, to: 0 }));
        assert_eq!(keeper.overruled, 2);
        keeper.was_set(4);
        keeper.fail("nobody answers".to_owned());
        assert_eq!(look(&mut keeper, 7), None, "it was not held meanwhile");
    }
}
