//! The kernels that a device has loaded.

use crate::driver::{Driver, FunctionId, ModuleId};
use crate::launch::{Launch, Unit};
use crate::nvrtc::{Architecture, Nvrtc, Output};
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// Loaded modules and functions, by what they were made from.
#[derive(Default)]
pub(crate) struct Library {
    modules: HashMap<Unit, ModuleId>,
    functions: HashMap<(Unit, String, u32), FunctionId>,
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
        let (architecture, output) = (driver.architecture(), driver.output());
        let images: Vec<(Unit, Vec<u8>)> = missing
            .into_par_iter()
            .map(|unit| Ok((unit.clone(), image(unit, architecture, output)?)))
            .collect::<Result<_, String>>()?;
        for (unit, image) in images {
            let module = driver.load(&image).map_err(|error| format!("{}.cu: {error}", unit.stem))?;
            self.modules.insert(unit, module);
        }
        Ok(())
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

/// A unit compiled for an architecture. PTX is kept for the process: many emulated devices share it.
fn image(unit: &Unit, architecture: Architecture, output: Output) -> Result<Vec<u8>, String> {
    let file = sphereface_kernels::source(unit.stem).ok_or_else(|| format!("no file kernels/{}.cu", unit.stem))?;
    Ok(Nvrtc::find()?.compile(file, &unit.defines, architecture, output)?.image)
}
