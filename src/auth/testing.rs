//! Signing keys and tokens for this module's tests.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The time at which tests verify, in unix seconds.
pub const NOW: i64 = 1_700_000_000;

/// Something that signs tokens with one algorithm.
pub enum Signer {
    Hmac { alg: &'static str, secret: Vec<u8> },
    Rsa { alg: &'static str, key: &'static RsaKeyPair },
    Ec { alg: &'static str, key: EcdsaKeyPair },
    Ed(Ed25519KeyPair),
}

/// Making an RSA key takes long enough to share one.
static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

impl Signer {
    pub fn hmac(alg: &'static str, secret: &str) -> Self {
        Self::Hmac { alg, secret: secret.as_bytes().to_vec() }
    }

    /// RS256 and the like, and PS256 and the like.
    pub fn rsa(alg: &'static str) -> Self {
        Self::Rsa { alg, key: &RSA }
    }

    pub fn ec(alg: &'static str) -> Self {
        let (curve, _, _) = ec_parameters(alg);
        Self::Ec { alg, key: EcdsaKeyPair::generate(curve).unwrap() }
    }

    pub fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().unwrap())
    }

    pub fn alg(&self) -> &'static str {
        match self {
            Self::Hmac { alg, .. } | Self::Rsa { alg, .. } | Self::Ec { alg, .. } => alg,
            Self::Ed(_) => "EdDSA",
        }
    }

    /// A token with `claims`.
    pub fn token(&self, claims: Value) -> String {
        self.token_with_header(json!({"alg": self.alg(), "typ": "JWT"}), claims)
    }

    /// A token with `claims` that names its key.
    pub fn token_of(&self, kid: &str, claims: Value) -> String {
        self.token_with_header(json!({"alg": self.alg(), "kid": kid}), claims)
    }

    pub fn token_with_header(&self, header: Value, claims: Value) -> String {
        let message = message(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// The public half in PEM.
    pub fn pem(&self) -> String {
        let der = match self {
            Self::Hmac { .. } => panic!("a secret has no public half"),
            Self::Rsa { key, .. } => key.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Ec { key, .. } => key.public_key().as_der().unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.public_key().as_der().unwrap().as_ref().to_vec(),
        };
        let lines: Vec<_> = STANDARD.encode(der).into_bytes();
        let lines: Vec<_> =
            lines.chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// The public half as an entry of a key set, without `alg`.
    pub fn jwk(&self, kid: &str) -> Value {
        let mut jwk = match self {
            Self::Hmac { secret, .. } => json!({"kty": "oct", "k": base64(secret)}),
            Self::Rsa { key, .. } => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({"kty": "RSA", "n": base64(&public.n), "e": base64(&public.e)})
            }
            Self::Ec { alg, key } => {
                let (_, curve, length) = ec_parameters(alg);
                let (x, y) = key.public_key().as_ref()[1..].split_at(length);
                json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)})
            }
            Self::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64(key.public_key().as_ref())})
            }
        };
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Hmac { alg, secret } => {
                let alg = match *alg {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    other => panic!("{other}"),
                };
                hmac::sign(&hmac::Key::new(alg, secret), message).as_ref().to_vec()
            }
            Self::Rsa { alg, key } => {
                let padding: &'static dyn RsaEncoding = match *alg {
                    "RS256" => &RSA_PKCS1_SHA256,
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    other => panic!("{other}"),
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
            Self::Ec { key, .. } => {
                key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
            }
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// Header and payload with the dot between them.
pub fn message(header: Value, claims: Value) -> String {
    format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()))
}

fn ec_parameters(alg: &str) -> (&'static EcdsaSigningAlgorithm, &'static str, usize) {
    match alg {
        "ES256" => (&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256", 32),
        "ES384" => (&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384", 48),
        "ES512" => (&ECDSA_P521_SHA512_FIXED_SIGNING, "P-521", 66),
        other => panic!("{other}"),
    }
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
