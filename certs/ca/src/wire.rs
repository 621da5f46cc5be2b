//! The messages of `istio.v1.auth` and the gRPC glue, by hand: one method, five fields.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::service::SigningService;

/// Path of the one method.
pub const CREATE_CERTIFICATE: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// `istio.v1.auth.IstioCertificateRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateRequest {
    /// The signing request as PEM.
    #[prost(string, tag = "1")]
    pub csr: String,
    /// The lifetime that is asked for, in seconds; 0 for the authority's default.
    #[prost(int64, tag = "3")]
    pub validity_duration: i64,
    /// Hints, such as `CertSigner` and `ImpersonatedIdentity`.
    #[prost(message, optional, tag = "4")]
    pub metadata: Option<prost_types::Struct>,
}

/// `istio.v1.auth.IstioCertificateResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IstioCertificateResponse {
    /// The leaf, intermediates, and as the last element the trusted roots; each as PEM.
    #[prost(string, repeated, tag = "1")]
    pub cert_chain: Vec<String>,
}

/// The tonic service around a [`SigningService`].
#[derive(Debug, Clone)]
pub struct IstioCertificateServiceServer(Arc<SigningService>);

impl IstioCertificateServiceServer {
    /// Takes the service.
    pub fn new(service: SigningService) -> Self {
        Self(Arc::new(service))
    }
}

impl NamedService for IstioCertificateServiceServer {
    const NAME: &'static str = "istio.v1.auth.IstioCertificateService";
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<B> Service<http::Request<B>> for IstioCertificateServiceServer
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            if request.uri().path() != CREATE_CERTIFICATE {
                let path = request.uri().path();
                return Ok(Status::unimplemented(format!("no method {path}")).into_http());
            }
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(grpc.unary(CreateCertificate(service), request).await)
        })
    }
}

struct CreateCertificate(Arc<SigningService>);

impl UnaryService<IstioCertificateRequest> for CreateCertificate {
    type Response = IstioCertificateResponse;
    type Future = BoxFuture<Result<Response<IstioCertificateResponse>, Status>>;

    fn call(&mut self, request: Request<IstioCertificateRequest>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move { service.create_certificate(&request).await.map(Response::new) })
    }
}
