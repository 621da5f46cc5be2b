//! Routes: APISIX's, in APISIX's order of precedence, as Envoy's virtual hosts.

mod forward;
mod paths;
mod plugins;
mod redirect;
mod rewrite;
mod values;
mod vars;

use std::cmp::Reverse;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use weft_control_model::{Method, Plugins};
use weft_xds_proto::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use weft_xds_proto::pb::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, Route, RouteMatch, header_matcher::HeaderMatchSpecifier,
    route::Action, route_match::PathSpecifier,
};

use crate::chain::{self, RouteChain};
use crate::envoy::{self, flag, inline};
use crate::problem::Unsupported;
use crate::served::Place;
use crate::targets::{RouteContext, Target, Targets};
pub(crate) use forward::carries_http;

use forward::Forwarding;
use paths::PathPattern;
use vars::Conditions;

/// The body of the answer when no route matches.
const NOT_FOUND: &str = "{\"error_msg\":\"404 Route Not Found\"}\n";
/// The body of the answer when a route has no upstream.
const NO_UPSTREAM: &str =
    "{\"error_msg\":\"missing upstream configuration in Route or Service\"}\n";

/// Routes of one host pattern in the order of trial. A clone costs nothing.
#[derive(Debug, Clone)]
pub(crate) struct RouteGroup {
    routes: RedBlackTreeMapSync<Precedence, Arc<[Route]>>,
    /// How many ask who is there.
    authenticating: usize,
}

impl Default for RouteGroup {
    fn default() -> Self {
        Self { routes: RedBlackTreeMapSync::new_sync(), authenticating: 0 }
    }
}

/// Path first, then priority, then age; the last two tell equal ones apart.
type Precedence = (PathPattern, Reverse<i64>, u64, String, usize);

impl RouteGroup {
    /// Adds a translated route.
    pub(crate) fn add(&mut self, translated: &TranslatedRoute) {
        for (precedence, routes) in translated.by_precedence() {
            self.routes.insert_mut(precedence, Arc::clone(routes));
        }
        self.authenticating += usize::from(translated.authenticates);
    }

    /// Takes out what was added.
    pub(crate) fn remove(&mut self, translated: &TranslatedRoute) {
        for (precedence, _) in translated.by_precedence() {
            self.routes.remove_mut(&precedence);
        }
        self.authenticating -= usize::from(translated.authenticates);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.values().flat_map(|routes| routes.iter())
    }

    /// Whether one of them asks who is there.
    pub(crate) fn authenticates(&self) -> bool {
        self.authenticating > 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }
}

/// A route as Envoy's routes, for each of its paths.
pub(crate) struct TranslatedRoute {
    by_path: Vec<(PathPattern, Arc<[Route]>)>,
    authenticates: bool,
    priority: i64,
    created: u64,
    id: String,
    /// The upstreams that it leads to.
    pub(crate) targets: Targets,
}

impl TranslatedRoute {
    fn by_precedence(&self) -> impl Iterator<Item = (Precedence, &Arc<[Route]>)> {
        self.by_path.iter().enumerate().map(|(index, (path, routes))| {
            let priority = Reverse(self.priority);
            ((path.clone(), priority, self.created, self.id.clone(), index), routes)
        })
    }
}

/// Translates a route.
pub(crate) fn translate(
    context: &RouteContext<'_>,
    place: Place,
    https_port: u16,
) -> Result<TranslatedRoute, Unsupported> {
    if !context.route.remote_addrs.is_empty() {
        let reason = "a proxy can't choose routes by the client's address yet";
        return Err(Unsupported::new("remote_addrs", reason));
    }
    let conditions = match &context.route.vars {
        Some(vars) => vars::alternatives(&vars.expr)?,
        None => vec![Conditions::default()],
    };
    let mut targets = Targets::new();
    let plugins = context.plugins()?;
    plugins::refuse_unknown(&plugins)?;
    let mut branches = branches(context, &plugins, (place, https_port), &mut targets)?;
    targets.extend(plugins::callouts(context, &plugins)?);
    let chain = chain::of_route(context, &plugins);
    if let Some(chain) = &chain {
        for branch in &mut branches {
            branch.run(chain);
        }
    }
    let methods = methods(&context.route.methods);
    let mut by_path = Vec::new();
    for uri in &context.route.uris {
        let path = PathPattern::parse(uri);
        let mut routes = Vec::new();
        for branch in &branches {
            for alternative in &conditions {
                let mut all = alternative.clone().and(&branch.conditions);
                all.headers.extend(methods.clone());
                routes.push(branch.route(context, &path, all));
            }
        }
        by_path.push((path, routes.into()));
    }
    Ok(TranslatedRoute {
        by_path,
        authenticates: chain.is_some_and(|chain| chain.authenticates),
        priority: context.route.priority,
        created: context.created,
        id: context.key.to_string(),
        targets,
    })
}

/// The answer to what matches no route, after these plugins.
pub(crate) fn not_found(chain: Option<&RouteChain>) -> Route {
    let mut route = answer("not-found", 404, NOT_FOUND);
    let chain = chain.map(|chain| (chain.filter.to_owned(), chain.config.clone()));
    route.typed_per_filter_config.extend(chain);
    route
}

/// One of the ways that a route's requests go.
struct Branch {
    conditions: Conditions,
    /// Everything but name and match.
    route: Route,
}

impl Branch {
    /// Runs a chain of plugins.
    fn run(&mut self, chain: &RouteChain) {
        let config = &mut self.route.typed_per_filter_config;
        config.insert(chain.filter.to_owned(), chain.config.clone());
    }

    fn route(&self, context: &RouteContext<'_>, path: &PathPattern, all: Conditions) -> Route {
        Route {
            name: format!("{}/{}", context.key.kind.singular(), context.key.id),
            r#match: Some(RouteMatch {
                case_sensitive: Some(flag(true)),
                headers: all.headers,
                query_parameters: all.query,
                path_specifier: Some(path.specifier()),
                ..Default::default()
            }),
            ..self.route.clone()
        }
    }
}

fn branches(
    context: &RouteContext<'_>,
    plugins: &Plugins,
    (place, https_port): (Place, u16),
    targets: &mut Targets,
) -> Result<Vec<Branch>, Unsupported> {
    if let Some(redirect) = plugins::view::<redirect::Redirect>(plugins)? {
        let over_tls = place == Place::Edge { over_tls: true };
        let within = |error: Unsupported| error.within("plugins.redirect");
        if let Some(answers) = redirect.translate(over_tls, https_port).map_err(within)? {
            return Ok(answers.into_iter().map(redirection).collect());
        }
    }
    let own = context.own()?;
    let forwarding = forwarding(context, plugins, targets)?;
    let headers = (&forwarding.rewrite.headers_to_add, &forwarding.rewrite.headers_to_remove);
    let mut branches = Vec::new();
    let mut note = |shares: &[forward::Share]| -> Result<Action, Unsupported> {
        for (target, _) in shares {
            refuse_other_protocols(target)?;
            targets.insert(target.cluster.clone(), target.clone());
        }
        forwarding.action(shares).map(Action::Route)
    };
    let forwarded = |action: Action, conditions: Conditions| Branch {
        conditions,
        route: Route {
            request_headers_to_add: headers.0.clone(),
            request_headers_to_remove: headers.1.clone(),
            action: Some(action),
            ..Default::default()
        },
    };
    for split in plugins::splits(context, plugins, own.as_ref())? {
        let action = note(&split.shares)?;
        let always = split.is_unconditional();
        for conditions in split.conditions {
            branches.push(forwarded(action.clone(), conditions));
        }
        if always {
            return Ok(branches);
        }
    }
    branches.push(match own {
        Some(own) => forwarded(note(&[(own, 1)])?, Conditions::default()),
        None => {
            let route = answer("", 503, NO_UPSTREAM);
            Branch { conditions: Conditions::default(), route }
        }
    });
    Ok(branches)
}

fn forwarding(
    context: &RouteContext<'_>,
    plugins: &Plugins,
    targets: &mut Targets,
) -> Result<Forwarding, Unsupported> {
    let rewrite = plugins::view::<rewrite::ProxyRewrite>(plugins)?
        .map(|plugin| plugin.translate().map_err(|error| error.within("plugins.proxy-rewrite")))
        .transpose()?
        .unwrap_or_default();
    let mirror = plugins::mirror(context, plugins)?;
    let mirrors = mirror.into_iter().map(|(target, policy)| {
        targets.insert(target.cluster.clone(), target);
        policy
    });
    Ok(Forwarding {
        timeout: context.route.timeout,
        websocket: context.websocket(),
        rewrite,
        mirrors: mirrors.collect(),
    })
}

fn redirection(redirection: redirect::Redirection) -> Branch {
    let conditions = Conditions { headers: redirection.headers, ..Default::default() };
    let action = Some(Action::Redirect(redirection.action));
    Branch { conditions, route: Route { action, ..Default::default() } }
}

fn refuse_other_protocols(target: &Target) -> Result<(), Unsupported> {
    if carries_http(&target.upstream) {
        return Ok(());
    }
    let reason = format!("{}: its scheme isn't one of HTTP", target.cluster);
    Err(Unsupported::new("upstream", reason))
}

fn answer(name: &str, status: u32, body: &str) -> Route {
    Route {
        name: name.to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        response_headers_to_add: vec![envoy::header(
            "content-type",
            "application/json",
            HeaderAppendAction::OverwriteIfExistsOrAdd,
        )],
        action: Some(Action::DirectResponse(DirectResponseAction {
            status,
            body: Some(inline(body)),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn methods(methods: &[Method]) -> Option<HeaderMatcher> {
    let matcher = match methods {
        [] => return None,
        [one] => envoy::exact(one.as_str()),
        several => {
            let names: Vec<_> = several.iter().map(|method| method.as_str()).collect();
            envoy::regex_match(names.join("|"))
        }
    };
    Some(HeaderMatcher {
        name: ":method".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher)),
        ..Default::default()
    })
}
