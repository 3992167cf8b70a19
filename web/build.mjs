// Builds the page into dist/, or with --test builds and runs the unit tests.
// Assets carry a hash of their content in their names and may be cached for ever.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const source = (name) => join(here, 'src', name);

async function buildPage() {
  const dist = join(here, 'dist');
  await rm(dist, { recursive: true, force: true });
  await mkdir(join(dist, 'assets'), { recursive: true });
  const { metafile } = await build({
    absWorkingDir: here,
    entryPoints: [source('main.ts'), source('style.css')],
    entryNames: 'assets/[name]-[hash]',
    outdir: dist,
    bundle: true,
    minify: true,
    format: 'esm',
    target: ['chrome111', 'firefox120', 'safari16.4'],
    legalComments: 'none',
    metafile: true,
    logLevel: 'warning',
  });
  const built = Object.fromEntries(Object.entries(metafile.outputs)
    .map(([path, { entryPoint }]) => [basename(entryPoint ?? ''), `assets/${basename(path)}`]));

  const icon = await readFile(source('icon.svg'));
  const iconPath = `assets/icon-${createHash('sha256').update(icon).digest('hex').slice(0, 8).toUpperCase()}.svg`;
  await writeFile(join(dist, iconPath), icon);

  const paths = { '%ICON%': iconPath, '%STYLE%': built['style.css'], '%SCRIPT%': built['main.ts'] };
  const template = await readFile(source('index.html'), 'utf8');
  const page = template.replace(/%[A-Z]+%/g, (name) => {
    if (!paths[name]) throw new Error(`index.html names ${name}, which the build does not make`);
    return paths[name];
  });
  await writeFile(join(dist, 'index.html'), page);
  for (const [path, { bytes }] of Object.entries(metafile.outputs)) console.log(`${path}  ${(bytes / 1024).toFixed(1)} kB`);
}

async function runTests() {
  const tests = (await readdir(join(here, 'test'))).filter((name) => name.endsWith('.test.ts'));
  const outdir = join(here, 'node_modules', '.cache', 'voice-room-tests');
  await rm(outdir, { recursive: true, force: true });
  await build({
    absWorkingDir: here,
    entryPoints: tests.map((name) => join(here, 'test', name)),
    outdir,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    sourcemap: 'inline',
    logLevel: 'warning',
  });
  const files = tests.map((name) => join(outdir, `${basename(name, extname(name))}.mjs`));
  const { status } = spawnSync(process.execPath, ['--enable-source-maps', '--test', ...files], { stdio: 'inherit' });
  process.exitCode = status ?? 1;
}

await (process.argv.includes('--test') ? runTests() : buildPage());
