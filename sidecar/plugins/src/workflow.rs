//! `workflow`: the first rule whose conditions hold decides what is done.

use std::sync::Arc;

use serde_json::Value;
use weft_apisix::{Rule, Schema};

use crate::definition::{Context, Definition};
use crate::exchange::Exchange;
use crate::link::Link;
use crate::plugin::{Phase, Plugin, Step, Waiting};
use crate::reply::Reply;

pub(crate) const DEFINITION: Definition = Definition::new(
    "workflow",
    1006,
    r#"{
        "type": "object",
        "properties": {"rules": {"type": "array", "items": {
            "type": "object",
            "properties": {
                "case": {
                    "type": "array", "minItems": 1,
                    "items": {"anyOf": [{"type": "array"}, {"type": "string"}]}
                },
                "actions": {"type": "array", "items": {"type": "array", "minItems": 1}}
            },
            "required": ["actions"]
        }}},
        "required": ["rules"]
    }"#,
    compile,
);

#[derive(Debug)]
struct Workflow(Vec<Case>);

#[derive(Debug)]
struct Case {
    when: Option<Rule>,
    action: Option<Action>,
}

#[derive(Debug)]
enum Action {
    Return(u16),
    Run(Box<Link>),
}

fn compile(settings: &Value, context: &Context<'_>) -> Result<Arc<dyn Plugin>, String> {
    let mut cases = Vec::new();
    for (index, rule) in settings["rules"].as_array().into_iter().flatten().enumerate() {
        let when = rule.get("case").map(Rule::compile).transpose();
        let when =
            when.map_err(|error| format!("failed to validate the 'case' expression: {error}"))?;
        let mut actions = Vec::new();
        for one in rule["actions"].as_array().into_iter().flatten() {
            // Equal actions of different rules count apart.
            let owner = format!("{}#workflow{}", context.owner, index + 1);
            actions.push(action(one, &Context { owner: &owner, ..*context })?);
        }
        cases.push(Case { when, action: actions.into_iter().next() });
    }
    Ok(Arc::new(Workflow(cases)))
}

fn action(json: &Value, context: &Context<'_>) -> Result<Action, String> {
    let name = json[0].as_str().unwrap_or_default();
    let settings = json.get(1).cloned().unwrap_or_default();
    let failed = |error: String| format!("failed to validate the '{name}' action: {error}");
    match name {
        "return" => {
            let schema = Schema::new(serde_json::json!({
                "type": "object",
                "properties": {"code": {"type": "integer", "minimum": 100, "maximum": 599}},
                "required": ["code"],
            }));
            schema.check(&mut settings.clone()).map_err(failed)?;
            let code = settings["code"].as_u64().and_then(|code| u16::try_from(code).ok());
            Ok(Action::Return(code.unwrap_or(200)))
        }
        "limit-count" | "limit-conn" => {
            let link = Link::compile(name, &settings, context.owner, &Value::Null);
            let link = link.map_err(failed)?;
            link.map(|link| Action::Run(Box::new(link)))
                .ok_or_else(|| failed("it is disabled".to_owned()))
        }
        other => Err(format!("unsupported action: {other}")),
    }
}

impl Workflow {
    fn chosen(&self, exchange: &Exchange<'_>) -> Option<usize> {
        let variables = exchange.variables();
        self.0.iter().position(|case| case.when.as_ref().is_none_or(|when| when.holds(&variables)))
    }
}

/// The rule that was chosen.
struct Chosen(usize);

impl Plugin for Workflow {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        let Some(chosen) = self.chosen(exchange) else { return Step::Continue };
        match &self.0[chosen].action {
            None => Step::Continue,
            Some(Action::Return(code)) => Reply::error_msg(*code, "rejected by workflow").into(),
            Some(Action::Run(link)) => {
                // It must not run twice.
                exchange.run.skipped.push(link.name);
                exchange.keep(Chosen(chosen));
                link.plugin.access(exchange)
            }
        }
    }

    fn wait<'a>(&'a self, phase: Phase, exchange: &'a mut Exchange<'_>) -> Waiting<'a> {
        let chosen = exchange.run.kept::<Chosen>(exchange.link).map(|chosen| chosen.0);
        match chosen.and_then(|chosen| self.0[chosen].action.as_ref()) {
            Some(Action::Run(link)) => link.plugin.wait(phase, exchange),
            _ => Box::pin(std::future::ready(Step::Continue)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{Case, refused};

    fn rules() -> Value {
        json!({"rules": [
            {"case": [["uri", "==", "/closed"]], "actions": [["return", {"code": 410}]]},
            {
                "case": ["OR", ["arg_a", "==", "1"], ["arg_a", "==", "2"]],
                "actions": [["limit-count", {"count": 1, "time_window": 60}]],
            },
        ]})
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let case = Case::new("workflow", rules());
        let reply = case.again().get("/closed?a=1").run().replies(410);
        assert_eq!(reply.text(), "{\"error_msg\":\"rejected by workflow\"}\n");
        case.again().get("/open?a=1").run().passes();
        case.again().get("/open?a=2").run().replies(503);
        case.again().get("/open").run().passes();
    }

    #[test]
    fn what_it_runs_does_not_run_again() {
        let own = json!({"count": 1, "time_window": 60, "rejected_code": 429});
        let chain = json!({"plugins": {"workflow": rules(), "limit-count": own}});
        let case = Case::chain(chain);
        case.again().get("/?a=1").run().passes();
        case.again().get("/").run().passes();
        case.again().get("/").run().replies(429);
    }

    #[test]
    fn wrong_actions_are_refused() {
        for (action, error) in [
            (json!(["fly", {}]), "unsupported action: fly"),
            (
                json!(["return", {}]),
                "failed to validate the 'return' action: property \"code\" is required",
            ),
        ] {
            let settings = json!({"rules": [{"actions": [action]}]});
            assert_eq!(refused("workflow", settings), error);
        }
    }
}
