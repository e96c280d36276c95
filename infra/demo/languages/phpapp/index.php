<?php
// A service that PHP's own server runs. Every answer is what it has included until then, in this request and before.
require __DIR__ . '/vendor/autoload.php';

switch (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
    case '/':
        $twig = new Twig\Environment(new Twig\Loader\ArrayLoader(['page' => '{{ 1 + 1 }}']));
        $twig->render('page');
        (new Monolog\Logger('demo', [new Monolog\Handler\NullHandler()]))->info('brings psr/log');
        break;
    case '/data': // of packages that nothing loads
        file_get_contents(__DIR__ . '/vendor/composer/installed.json');
        stat(__DIR__ . '/vendor/symfony/finder/Finder.php');
        break;
    case '/late':
        Symfony\Component\Yaml\Yaml::parse('a: 1');
        break;
}
file_put_contents('/tmp/included', implode("\n", get_included_files()) . "\n", FILE_APPEND);
header('Content-Type: application/json');
echo json_encode(['modules' => array_values(array_unique(file('/tmp/included', FILE_IGNORE_NEW_LINES)))]);
