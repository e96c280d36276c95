<?php
// Classes are looked for all the time, and signals whose handler throws come in the middle of it: what they throw arrives.
// Prints how many did not. Without the hook every signal is an exception in the loop.
pcntl_async_signals(true);
class Mine extends Exception {}
$handled = $arrived = 0;
$armed = false;
pcntl_signal(SIGUSR1, function () use (&$handled, &$armed) {
    if ($armed) {
        $armed = false;
        $handled++;
        throw new Mine('signal');
    }
});
$rounds = (int) $argv[1];
$parent = getmypid();
$sender = proc_open(['sh', '-c', "while kill -USR1 $parent 2>/dev/null; do sleep 0.002; done"], [], $pipes);
for ($number = 0; $handled < $rounds;) {
    try {
        for ($armed = true; $armed;) {
            class_exists('Missing' . $number++);
        }
    } catch (Mine $error) {
        $arrived++;
    }
}
proc_terminate($sender, SIGKILL);
echo $handled - $arrived, "\n";
