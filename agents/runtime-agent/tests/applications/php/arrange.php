<?php
// Makes Composer's packages of Debian's, each extracted into a folder of its own, and installs them from there:
// php arrange.php FOLDER TARGET
[, $folder, $target] = $argv;
$packages = [
    // Debian's name, Composer's name, folder below /usr/share/php, prefix of its classes
    ['php-twig', 'twig/twig', 'Twig', 'Twig\\'],
    ['php-monolog', 'monolog/monolog', 'Monolog', 'Monolog\\'],
    ['php-guzzlehttp-psr7', 'guzzlehttp/psr7', 'GuzzleHttp/Psr7', 'GuzzleHttp\\Psr7\\'],
    ['php-nikic-fast-route', 'nikic/fast-route', 'FastRoute', 'FastRoute\\'],
    ['php-doctrine-inflector', 'doctrine/inflector', 'Doctrine/Inflector', 'Doctrine\\Inflector\\'],
    ['php-doctrine-lexer', 'doctrine/lexer', 'Doctrine/Common/Lexer', 'Doctrine\\Common\\Lexer\\'],
    ['php-symfony-console', 'symfony/console', 'Symfony/Component/Console', 'Symfony\\Component\\Console\\'],
    ['php-symfony-string', 'symfony/string', 'Symfony/Component/String', 'Symfony\\Component\\String\\'],
    ['php-symfony-finder', 'symfony/finder', 'Symfony/Component/Finder', 'Symfony\\Component\\Finder\\'],
    ['php-symfony-process', 'symfony/process', 'Symfony/Component/Process', 'Symfony\\Component\\Process\\'],
    ['php-symfony-yaml', 'symfony/yaml', 'Symfony/Component/Yaml', 'Symfony\\Component\\Yaml\\'],
    ['php-psr-log', 'psr/log', 'Psr/Log', 'Psr\\Log\\'],
    ['php-psr-container', 'psr/container', 'Psr/Container', 'Psr\\Container\\'],
    ['php-psr-http-message', 'psr/http-message', 'Psr/Http/Message', 'Psr\\Http\\Message\\'],
    ['php-brick-math', 'brick/math', 'Brick/Math', 'Brick\\Math\\'],
    ['php-ramsey-uuid', 'ramsey/uuid', 'Ramsey/Uuid', 'Ramsey\\Uuid\\'],
    ['php-league-commonmark', 'league/commonmark', 'League/CommonMark', 'League\\CommonMark\\'],
    ['php-react-promise', 'react/promise', 'React/Promise', 'React\\Promise\\'],
];
$write = fn ($file, $value) => file_put_contents($file, json_encode($value, JSON_PRETTY_PRINT | JSON_UNESCAPED_SLASHES));
$install = function ($directory, $required) use ($write, $folder) {
    is_dir($directory) || mkdir($directory, 0755, true);
    $repositories = [['type' => 'path', 'url' => "$folder/made/*/*", 'options' => ['symlink' => false]], ['packagist.org' => false]];
    $write("$directory/composer.json", ['name' => 'plimsoll/test', 'repositories' => $repositories, 'require' => $required]);
    $command = 'COMPOSER_ALLOW_SUPERUSER=1 composer install --quiet --no-interaction --no-cache --working-dir=';
    passthru($command . escapeshellarg($directory), $code);
    $code && exit($code);
};
$make = function ($debian, $name, $from, $prefix, $version) use ($write, $folder) {
    $to = "$folder/made/" . ($version === 'old' ? 'old-' : '') . $name;
    mkdir("$to/src", 0755, true);
    passthru('cp -r ' . escapeshellarg("$folder/$debian/usr/share/php/$from/.") . ' ' . escapeshellarg("$to/src"), $code);
    $code && exit($code);
    file_put_contents("$to/notes.txt", "of $name\n");
    $write("$to/composer.json", ['name' => $name, 'version' => $version, 'autoload' => ['psr-4' => [$prefix => 'src/']]]);
};
foreach ($packages as [$debian, $name, $from, $prefix]) {
    $make($debian, $name, $from, $prefix, '7.0.0');
}
$install($target, array_fill_keys(array_column($packages, 1), '7.0.0'));
// The same package in another version, for a tool beside the application.
exec('rm -r ' . escapeshellarg("$folder/made/psr"));
$make('php-psr-log', 'psr/log', 'Psr/Log', 'Psr\\Log\\', '6.0.0');
$install("$target/tool", ['psr/log' => '6.0.0']);
