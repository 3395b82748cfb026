//! Three riders of one route and day share a car: each is told with whom. A handler that is called with windows.

use serde::{Deserialize, Serialize};
use tidemill_sdk::{Context, Done, Failure, Handler, OnWindow, Out, Outcome, Setup, Window};

/// What is read of a request; other fields are passed over.
#[derive(Deserialize)]
struct Request<'a> {
    rider: &'a str,
    route: &'a str,
    day: &'a str,
}

#[derive(Serialize)]
struct Match<'a> {
    rider: &'a str,
    route: &'a str,
    day: &'a str,
    with: Vec<&'a str>,
}

struct Carpool;

impl Handler for Carpool {
    fn init(_: &Setup) -> Result<Self, Failure> {
        Ok(Self)
    }
}

impl OnWindow for Carpool {
    fn on_window(&mut self, window: &Window, ctx: &mut Context) -> Outcome {
        // One that cannot be read makes a dead letter of the whole window, with all of its requests.
        let requests: Vec<Request> =
            window.all("request").map(|event| event.json()).collect::<Result<_, _>>()?;
        for (place, request) in requests.iter().enumerate() {
            let others = requests.iter().enumerate().filter(|(other, _)| *other != place);
            let with = others.map(|(_, other)| other.rider).collect();
            let Request { rider, route, day } = *request;
            ctx.send(Out::json(rider, &Match { rider, route, day, with })?.attribute("subject", rider))?;
        }
        Ok(Done::Ok)
    }
}

tidemill_sdk::export! { "carpool" => Carpool }

#[cfg(test)]
mod tests {
    use tidemill_sdk::serde_json::json;
    use tidemill_sdk::testing::{Given, GivenWindow, Harness};

    use super::*;

    #[test]
    fn each_rider_is_told_with_whom() {
        let mut carpool = Harness::<Carpool>::new(()).strict();
        let request =
            |rider: &str| Given::json(rider, &json!({ "rider": rider, "route": "a-b", "day": "mon" }));
        let pair = GivenWindow::of("k").event("request", request("ada")).event("request", request("bob"));
        carpool.expect_ok_window(pair);
        carpool.expect_emit("ada", &json!({ "rider": "ada", "route": "a-b", "day": "mon", "with": ["bob"] }));
        carpool.expect_emit("bob", &json!({ "rider": "bob", "route": "a-b", "day": "mon", "with": ["ada"] }));
        carpool.expect_reject_window(GivenWindow::of("k").event("request", Given::json("k", &json!(1))));
        carpool.expect_nothing_more();
    }
}
