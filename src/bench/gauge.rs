//! The time of a load that counts: what was read and used from its beginning to its end.

use std::ops::Range;

use super::crew::{Crew, Halt};
use super::event::Counters;
use super::meter::{Meter, Usage};

/// Looks at the meters where the time that counts begins and where it ends.
#[derive(Debug)]
pub struct Gauge {
    /// In nanoseconds of the engine's clock.
    window: Range<u64>,
    start: Option<(Meter, Counters)>,
    found: Option<Measured>,
}

/// What lies between the two looks. Both parts are of the same time, so that one may be divided by
/// the other even where a look came late.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    pub usage: Usage,
    pub counted: Counters,
}

impl Gauge {
    /// A gauge for this time, in nanoseconds of the engine's clock.
    pub fn new(window: Range<u64>) -> Self {
        Self { window, start: None, found: None }
    }

    /// Looks, if the time has begun or ended. Belongs into every turn of a load.
    ///
    /// # Errors
    /// If the server's process, or another of the run, is not there.
    pub fn look(&mut self, crew: &Crew) -> Result<(), Halt> {
        let now_ns = crew.engine.now_ns();
        match &self.start {
            None if now_ns >= self.window.start => {
                self.start = Some((crew.meter()?, crew.engine.counters()));
            }
            Some((meter, before)) if self.found.is_none() && now_ns >= self.window.end => {
                self.found = Some(self.between(meter, before, crew)?);
            }
            _ => {}
        }
        Ok(())
    }

    pub fn is_done(&self) -> bool {
        self.found.is_some()
    }

    /// The next moment at which a look is wanted; `None` after the last one.
    pub fn next_ns(&self) -> Option<u64> {
        match (&self.start, &self.found) {
            (None, _) => Some(self.window.start),
            (Some(_), None) => Some(self.window.end),
            (Some(_), Some(_)) => None,
        }
    }

    /// What there is, also of a load that ended before its time. What counting the memory costs is
    /// paid here, behind the last delivery.
    pub fn finish(self, crew: &mut Crew) -> Measured {
        let Some((meter, before)) = &self.start else { return Measured::default() };
        let found = self.found.map_or_else(|| self.between(meter, before, crew), Ok);
        let mut measured = found.unwrap_or_else(|error| {
            crew.failures.add(error.to_string());
            Measured::default()
        });
        match meter.weighed(measured.usage) {
            Ok(usage) => measured.usage = usage,
            Err(error) => crew.failures.add(error.to_string()),
        }
        measured
    }

    fn between(&self, meter: &Meter, before: &Counters, crew: &Crew) -> Result<Measured, Halt> {
        let counted = crew.engine.counters().since(before);
        let usage = meter.stop()?.meant_for(&self.window);
        Ok(Measured { usage, counted })
    }
}
