//! The kernels that a device has loaded.

use crate::cache::{Cache, Job};
use crate::driver::{Driver, FunctionId, ModuleId};
use crate::launch::{Launch, Unit, units};
use crate::nvrtc::Compiled;
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Called by several threads while kernels are compiled: how many are done, of how many.
pub type Progress = Box<dyn Fn(usize, usize) + Send + Sync>;

/// Loaded modules and functions, by what they were made from.
pub(crate) struct Library {
    cache: Cache,
    pub(crate) progress: Option<Progress>,
    modules: HashMap<Unit, ModuleId>,
    functions: HashMap<(Unit, String, u32), FunctionId>,
}

impl Default for Library {
    fn default() -> Self {
        Library { cache: Cache::of_user(), progress: None, modules: HashMap::new(), functions: HashMap::new() }
    }
}

impl Library {
    /// Compiles and loads what these launches need and is not there yet.
    pub(crate) fn prepare<'a>(
        &mut self,
        driver: &mut dyn Driver,
        launches: impl Iterator<Item = &'a Launch>,
    ) -> Result<(), String> {
        let missing: BTreeSet<&Unit> =
            launches.map(|launch| &launch.unit).filter(|unit| !self.modules.contains_key(*unit)).collect();
        let missing: Vec<Unit> = missing.into_iter().cloned().collect();
        debug_assert!(missing.iter().all(|unit| units().contains(unit)), "a unit that no test compiles: {missing:?}");
        for (unit, image) in missing.iter().zip(self.images(driver, &missing)?) {
            let module = driver.load(&image).map_err(|error| format!("{}.cu: {error}", unit.stem))?;
            self.modules.insert(unit.clone(), module);
        }
        Ok(())
    }

    /// Compiled units, in order: those of the cache, and the others, which several threads compile.
    fn images(&self, driver: &dyn Driver, units: &[Unit]) -> Result<Vec<Vec<u8>>, String> {
        let job = |unit| Job { unit, architecture: driver.architecture(), output: driver.output() };
        let jobs: Vec<Job<'_>> = units.iter().map(job).collect();
        let found: Vec<_> = jobs.iter().map(|&job| self.cache.find(job)).collect::<Result<_, _>>()?;
        let (total, done) = (found.iter().filter(|found| found.is_none()).count(), AtomicUsize::new(0));
        let report = |done: usize| self.progress.iter().for_each(|progress| progress(done, total));
        if total > 0 {
            report(0);
        }
        let image = |(job, found): (Job<'_>, Option<Compiled>)| match found {
            Some(compiled) => Ok(compiled.image),
            None => {
                let made = self.cache.make(job)?;
                report(1 + done.fetch_add(1, Ordering::Relaxed));
                Ok(made.image)
            }
        };
        jobs.into_par_iter().zip(found).map(image).collect()
    }

    /// The function of a launch whose unit is loaded.
    pub(crate) fn function(&mut self, driver: &mut dyn Driver, launch: &Launch) -> Result<FunctionId, String> {
        let key = (launch.unit.clone(), launch.kernel.clone(), launch.extent.shared_bytes);
        if let Some(&function) = self.functions.get(&key) {
            return Ok(function);
        }
        let function = driver
            .function(self.modules[&launch.unit], &launch.kernel, launch.extent.shared_bytes)
            .map_err(|error| format!("{}.cu: {error}", launch.unit.stem))?;
        self.functions.insert(key, function);
        Ok(function)
    }
}
