//! Signature algorithms, and the public keys and secrets that check them.

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm as Jwa, AlgorithmFamily, DecodingKey, crypto};
use serde::Deserialize;

/// Moduli a signature is checked with, in bytes: shorter ones are breakable, longer ones a way to
/// keep the processor busy.
const RSA_MODULUS_LENGTH: std::ops::RangeInclusive<usize> = 256..=1024;

/// The algorithms a token may be signed with. PS256, PS384, PS512 and `none` are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Algorithm {
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "HS384" => Self::Hs384,
            "HS512" => Self::Hs512,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }

    /// The kind of key the algorithm needs.
    pub fn family(self) -> AlgorithmFamily {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => AlgorithmFamily::Hmac,
            Self::Rs256 | Self::Rs384 | Self::Rs512 => AlgorithmFamily::Rsa,
            Self::Es256 | Self::Es384 | Self::Es512 => AlgorithmFamily::Ec,
            Self::EdDsa => AlgorithmFamily::Ed,
        }
    }

    /// Whether `signature` (base64url, as in the token) is `key`'s over `message`.
    pub fn verify(self, key: &DecodingKey, message: &str, signature: &str) -> bool {
        // A public key must never serve as the secret of an HMAC, so the kinds are compared here
        // and not left to the library alone.
        if key.family() != self.family() {
            return false;
        }
        match self.in_jsonwebtoken() {
            Some(jwa) => crypto::verify(signature, message.as_bytes(), key, jwa).unwrap_or(false),
            None => verify_es512(key, message, signature),
        }
    }

    fn in_jsonwebtoken(self) -> Option<Jwa> {
        Some(match self {
            Self::Hs256 => Jwa::HS256,
            Self::Hs384 => Jwa::HS384,
            Self::Hs512 => Jwa::HS512,
            Self::Rs256 => Jwa::RS256,
            Self::Rs384 => Jwa::RS384,
            Self::Rs512 => Jwa::RS512,
            Self::Es256 => Jwa::ES256,
            Self::Es384 => Jwa::ES384,
            Self::EdDsa => Jwa::EdDSA,
            Self::Es512 => return None,
        })
    }
}

/// `jsonwebtoken` has no ES512 (its other backend lacks the curve), so this asks the cryptography
/// beneath it. The signature is r and s of 66 bytes each, RFC 7518 section 3.4.
fn verify_es512(key: &DecodingKey, message: &str, signature: &str) -> bool {
    let (Ok(point), Ok(signature)) = (key.try_get_as_bytes(), URL_SAFE_NO_PAD.decode(signature))
    else {
        return false;
    };
    ECDSA_P521_SHA512_FIXED.verify_sig(point, message.as_bytes(), &signature).is_ok()
}

/// Reads an RSA public key from PEM.
///
/// # Errors
/// Says what is wrong with the key.
pub(super) fn rsa_from_pem(pem: &str) -> Result<DecodingKey, &'static str> {
    let key = DecodingKey::from_rsa_pem(pem.trim().as_bytes()).map_err(|_| NOT_PEM)?;
    let der = key.try_get_as_bytes().map_err(|_| NOT_RSA)?;
    let parsed = rsa::PublicKey::from_der(der).map_err(|_| NOT_RSA)?;
    let components = rsa::PublicKeyComponents::<Vec<u8>>::from(&parsed);
    check_modulus(&components.n)?;
    Ok(key)
}

/// Reads an ECDSA public key of the curve P-256, P-384 or P-521 from PEM.
///
/// # Errors
/// Says what is wrong with the key.
pub(super) fn ecdsa_from_pem(pem: &str) -> Result<DecodingKey, &'static str> {
    let key = DecodingKey::from_ec_pem(pem.trim().as_bytes()).map_err(|_| NOT_PEM)?;
    let point = key.try_get_as_bytes().map_err(|_| NOT_ECDSA)?;
    let curves: [&'static dyn VerificationAlgorithm; 3] =
        [&ECDSA_P256_SHA256_FIXED, &ECDSA_P384_SHA384_FIXED, &ECDSA_P521_SHA512_FIXED];
    let fits = |curve| UnparsedPublicKey::new(curve, point).parse().is_ok();
    if curves.into_iter().any(fits) { Ok(key) } else { Err(NOT_ECDSA) }
}

const NOT_PEM: &str = "not a PEM public key: it must begin with -----BEGIN PUBLIC KEY----- and be \
                       of the kind the setting is named after";
const NOT_RSA: &str = "not an RSA public key";
const NOT_ECDSA: &str = "not a public key of the curve P-256, P-384 or P-521";

/// A key of a key set: what can be checked with it.
#[derive(Debug)]
pub(super) struct SetKey {
    key: DecodingKey,
    /// The one algorithm it is for, if that is known from its curve or its `alg`.
    only: Option<Algorithm>,
}

impl SetKey {
    /// Whether `signature` (base64url, as in the token) is this key's over `message`.
    pub fn verify(&self, algorithm: Algorithm, message: &str, signature: &str) -> bool {
        self.only.is_none_or(|only| only == algorithm)
            && algorithm.verify(&self.key, message, signature)
    }
}

/// One entry of a key set as published, RFC 7517 section 4.
#[derive(Deserialize)]
pub(super) struct Jwk {
    pub kty: String,
    pub kid: Option<String>,
    #[serde(rename = "use")]
    pub usage: Option<String>,
    pub alg: Option<String>,
    pub crv: Option<String>,
    pub n: Option<String>,
    pub e: Option<String>,
    pub x: Option<String>,
    pub y: Option<String>,
}

impl Jwk {
    /// The key, if it is of a kind tokens may be signed with and well-formed.
    pub fn key(&self) -> Option<SetKey> {
        let (key, implied) = match self.kty.as_str() {
            "RSA" => (self.rsa()?, None),
            "EC" => self.ec().map(|(key, algorithm)| (key, Some(algorithm)))?,
            "OKP" => (self.ed25519()?, Some(Algorithm::EdDsa)),
            _ => return None,
        };
        let named = match self.alg.as_deref() {
            None | Some("") => None,
            Some(name) => Some(Algorithm::from_name(name)?),
        };
        match (implied, named) {
            (Some(implied), Some(named)) if implied != named => None,
            (implied, named) => Some(SetKey { key, only: implied.or(named) }),
        }
    }

    fn rsa(&self) -> Option<DecodingKey> {
        let n = decode(self.n.as_deref()?)?;
        let e = decode(self.e.as_deref()?)?;
        check_modulus(&n).ok()?;
        Some(DecodingKey::from_rsa_raw_components(&n, &e))
    }

    fn ec(&self) -> Option<(DecodingKey, Algorithm)> {
        let (length, algorithm) = match self.crv.as_deref()? {
            "P-256" => (32_usize, Algorithm::Es256),
            "P-384" => (48, Algorithm::Es384),
            "P-521" => (66, Algorithm::Es512),
            _ => return None,
        };
        let mut point = vec![0x04];
        for coordinate in [&self.x, &self.y] {
            let bytes = decode(coordinate.as_deref()?)?;
            // Some publishers drop the leading zeros that RFC 7518 section 6.2.1.2 asks for.
            let missing = length.checked_sub(bytes.len())?;
            point.resize(point.len() + missing, 0);
            point.extend_from_slice(&bytes);
        }
        Some((DecodingKey::from_ec_der(&point), algorithm))
    }

    fn ed25519(&self) -> Option<DecodingKey> {
        let x = decode(self.x.as_deref()?)?;
        let fits = self.crv.as_deref() == Some("Ed25519") && x.len() == 32;
        fits.then(|| DecodingKey::from_ed_der(&x))
    }
}

fn decode(value: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(value).ok()
}

fn check_modulus(n: &[u8]) -> Result<(), &'static str> {
    let length = n.iter().skip_while(|byte| **byte == 0).count();
    if RSA_MODULUS_LENGTH.contains(&length) {
        Ok(())
    } else {
        Err("an RSA key must have from 2048 to 8192 bits")
    }
}
