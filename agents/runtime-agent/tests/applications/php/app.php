<?php
// The application under test. With TRUTH it also writes what get_included_files() says at the very end.
$tell = function () {
    $truth = getenv('TRUTH') ?: ($_SERVER['TRUTH'] ?? '');
    $truth && file_put_contents($truth, implode("\n", get_included_files()) . "\n", FILE_APPEND);
};
register_shutdown_function(function () use ($tell) {
    new Brick\Math\Exception\DivisionByZeroException('late'); // after the script's end
    register_shutdown_function($tell);
});
require __DIR__ . '/vendor/autoload.php';

$twig = new Twig\Environment(new Twig\Loader\ArrayLoader(['page' => '{{ 1 + 1 }}']));
$log = new Monolog\Logger('test', [new Monolog\Handler\NullHandler()]); // brings psr/log
$log->info('x');
$path = new GuzzleHttp\Psr7\Uri('http://x/y'); // brings psr/http-message
$name = (new Symfony\Component\String\UnicodeString('snake_case'))->camel();
$collector = new FastRoute\RouteCollector(new FastRoute\RouteParser\Std(), new FastRoute\DataGenerator\GroupCountBased());
$collector->addRoute('GET', '/', 'page');
$yaml = Symfony\Component\Yaml\Yaml::parse('a: 1');

// Never loaded: read as data, read as metadata, listed, stat'ed, asked for.
file_get_contents(__DIR__ . '/vendor/league/commonmark/notes.txt');
json_decode(file_get_contents(__DIR__ . '/vendor/composer/installed.json'));
scandir(__DIR__ . '/vendor/symfony/process/src');
stat(__DIR__ . '/vendor/react/promise/src/Promise.php');
Composer\InstalledVersions::isInstalled('ramsey/uuid');

if (PHP_SAPI === 'cli') {
    // Late, in a process of its own, of a tool with another psr/log.
    passthru(PHP_BINARY . ' ' . escapeshellarg(__DIR__ . '/tool.php'));
}
echo $twig->render('page'), ' ', $name, ' ', $yaml['a'], "\n";
