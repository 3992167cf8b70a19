//! The WebAssembly engine, set up once for all plugins.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine as Wasmtime, InstanceAllocationStrategy, OptLevel,
    PoolingAllocationConfig, component::Linker,
};

use super::{
    clock::Clock,
    host::{self, State},
    limits,
};

/// Core modules, memories and tables that one component may be made of.
const PARTS: u32 = 16;

/// Instances for which there is room beyond those that are configured: an instance is
/// replaced while the last one's memory may still be on its way out.
const SPARE: u32 = 8;

/// What a place in the pool keeps of the memory and of each table of the instance that was in
/// it, in bytes.
const KEPT_MEMORY: usize = 512 << 10;
const KEPT_TABLE: usize = 64 << 10;

/// Compiles components and gives their instances a place to run.
pub(super) struct Engine {
    pub(super) wasmtime: Wasmtime,
    pub(super) linker: Linker<State>,
    /// Every guest runs by it.
    pub(super) clock: Arc<Clock>,
}

impl Engine {
    /// `instances`: how many will be alive at once. `cache_dir`: where compiled code is kept;
    /// what lies there is trusted, so it must belong to the server.
    pub(super) fn new(instances: usize, cache_dir: &Path) -> wasmtime::Result<Self> {
        Self::from_config(&config(instances, Some(cache_dir))?)
    }

    /// For looking at components, which will not run: compiles in a fraction of the time, and
    /// keeps nothing.
    pub(super) fn for_inspection() -> wasmtime::Result<Self> {
        let mut config = config(1, None)?;
        config.cranelift_opt_level(OptLevel::None);
        Self::from_config(&config)
    }

    /// For tools, which have time, and perhaps no place for compiled code.
    pub(super) fn for_tools(
        instances: usize,
        cache_dir: Option<&Path>,
        counts_instructions: bool,
    ) -> wasmtime::Result<Self> {
        let mut config = config(instances, cache_dir)?;
        config.consume_fuel(counts_instructions);
        Self::from_config(&config)
    }

    fn from_config(config: &Config) -> wasmtime::Result<Self> {
        let wasmtime = Wasmtime::new(config)?;
        let mut linker = Linker::new(&wasmtime);
        host::link(&mut linker)?;
        let clock = Clock::start({
            let wasmtime = wasmtime.clone();
            move || wasmtime.increment_epoch()
        })?;
        Ok(Self {
            wasmtime,
            linker,
            clock: Arc::new(clock),
        })
    }
}

/// See [`super::prepare_thread`].
pub(super) fn prepare_thread() {
    Wasmtime::tls_eager_initialize();
}

fn config(instances: usize, cache_dir: Option<&Path>) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // Guests that call themselves concurrently are not in the contract, and support for
        // them costs more than the rest of a call.
        .concurrency_support(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)));
    if let Some(cache_dir) = cache_dir {
        let mut cache = CacheConfig::new();
        cache.with_directory(absolute(cache_dir)?);
        config.cache(Some(Cache::new(cache)?));
    }
    Ok(config)
}

/// The cache insists on an absolute path.
fn absolute(path: &Path) -> std::io::Result<std::path::PathBuf> {
    std::fs::create_dir_all(path)?;
    path.canonicalize()
}

fn pool(instances: usize) -> PoolingAllocationConfig {
    // While a plugin is swapped, two versions of it are there; and of fresh instances, the one
    // that runs and the one made ahead.
    let instances = u32::try_from(instances)
        .unwrap_or(u32::MAX)
        .saturating_mul(3)
        .saturating_add(SPARE);
    let parts = instances.saturating_mul(PARTS);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_memories(instances.saturating_mul(2))
        .total_core_instances(parts)
        .total_tables(parts)
        .max_core_instances_per_component(PARTS)
        .max_memories_per_component(2)
        .max_tables_per_component(PARTS)
        .max_tables_per_module(4)
        .table_elements(limits::TABLE_ELEMENTS);
    if tells_pages() {
        // What a guest has written is set back by copying, and only beyond this by giving pages
        // back to the machine, which the next instance would have to fault in again.
        pool.linear_memory_keep_resident(KEPT_MEMORY)
            .table_keep_resident(KEPT_TABLE)
            .pagemap_scan(Enabled::Yes);
    }
    pool
}

/// Whether the kernel tells which pages a guest has touched (Linux 6.7 and later). Without
/// that, the lowest addresses would be set back whether touched or not, for nothing: what a
/// guest writes is mostly further up.
fn tells_pages() -> bool {
    static TELLS: LazyLock<bool> = LazyLock::new(|| {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(1)
            .total_core_instances(1)
            .total_memories(1)
            .total_tables(1)
            .total_stacks(1)
            .pagemap_scan(Enabled::Yes);
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        Wasmtime::new(&config).is_ok()
    });
    *TELLS
}
