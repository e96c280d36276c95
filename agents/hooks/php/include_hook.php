<?php
// Reports each file that PHP includes to Plimsoll's FIFO. Run by auto_prepend_file before every script or request; then it
// runs the application's own auto_prepend_file.
//
// It must never raise, print, wait, leave a variable, function or class behind, or keep the application's own prepended
// file out. For PHP 5.4 and newer.
//
// A report is one write of at most PIPE_BUF bytes, which a FIFO takes whole or not at all:
//     0x1E kind ' ' pid ' ' lost ' ' flags ' ' name-bytes ' ' path-bytes '\n' name path
// kind: HH = the hook is at work (name: version, kind of server, and `forks` where processes can be forked), HM = a file was
// included, HE = all was told that this process or request included, HF = the hook failed, or cannot see something.
${"\0plimsoll"} = function () {
    try {
        // Any of them may be missing (disable_functions): then the hook does nothing, and the agent counts a loss.
        foreach (array(
            'count', 'defined', 'dirname', 'fopen', 'fwrite', 'get_included_files', 'getmypid', 'ini_get', 'microtime',
            'register_shutdown_function', 'restore_error_handler', 'set_error_handler', 'spl_autoload_register',
            'stream_set_write_buffer', 'strlen', 'strncmp', 'substr',
        ) as $needed) {
            if (!@function_exists($needed)) {
                return;
            }
        }
        $own = __FILE__;
        $base = dirname(__DIR__);
        $fifo = $losses = false;
        $lost = $pid = $seen = 0;
        $reported = array($own => true);
        $next = 0.0;
        // How often it tells among the shutdown functions, and how often among the destructors.
        $rounds = 4;
        $turns = 8;
        // Places of objects that are gone, which the hook takes.
        $places = 8;
        // What lives until the objects are destroyed: the last generator among it.
        $kept = array('turns' => $turns, 'generator' => null, 'objects' => array());
        $destroyed = null;
        $ends = PHP_VERSION_ID >= 50500 && !ini_get('suhosin.executor.disable_eval');
        $silenced = array();

        $report = function ($kind, $name, $path) use (&$fifo, &$losses, &$lost) {
            $room = 4096 - 128 - strlen($name);
            $flags = strlen($path) > $room ? 't' : '-';
            $path = substr($path, 0, $room);
            $head = "\x1e" . $kind . ' ' . getmypid() . ' ' . $lost . ' ' . $flags . ' ' . strlen($name) . ' ' . strlen($path);
            $record = $head . "\n" . $name . $path;
            if ($fifo !== false && fwrite($fifo, $record) === strlen($record)) {
                $lost = 0;
            } else {
                // Beyond a limit of file sizes (ulimit -f) this would be SIGXFSZ: then a later report tells the count.
                $limits = function_exists('posix_getrlimit') ? posix_getrlimit() : false;
                $limited = isset($limits['soft filesize']) && $limits['soft filesize'] !== 'unlimited';
                if ($losses === false || $limited || fwrite($losses, 'H') !== 1) {
                    $lost += 1;
                }
            }
        };
        // Handlers of signals run in between the hook's own lines: what they throw is the application's.
        $failed = function ($error) use ($report, $own) {
            if ($error->getFile() !== $own) {
                throw $error;
            }
            try {
                $report('HF', substr($error->getMessage(), 0, 300), '');
            } catch (Exception $error) {
            } catch (Throwable $error) {
            }
            if ($error->getFile() !== $own) {
                throw $error;
            }
        };

        // Runs a piece of the hook; what PHP has to say about it is no one's to hear.
        $guard = function ($work) use ($failed) {
            set_error_handler(function () {
                return true;
            });
            $error = null;
            try {
                $work();
            } catch (Exception $error) {
            } catch (Throwable $error) {
            }
            restore_error_handler();
            if ($error !== null) {
                $failed($error);
            }
        };

        $hello = function () use (&$pid, $report) {
            $pid = getmypid();
            $forks = function_exists('pcntl_fork') ? ' forks' : '';
            $report('HH', PHP_VERSION . ' ' . PHP_SAPI . $forks, defined('PHP_BINARY') ? PHP_BINARY : '');
        };

        $included = function () use (&$reported, &$seen, &$pid, $report, $hello) {
            // A fork tells of its own end.
            if ($pid !== getmypid()) {
                $hello();
            }
            // The list only grows.
            $files = get_included_files();
            if (count($files) === $seen) {
                return;
            }
            foreach ($files as $file) {
                if (!isset($reported[$file])) {
                    $report('HM', '', strncmp($file, 'phar://', 7) ? $file : substr($file, 7));
                    $reported[$file] = true;
                }
            }
            $seen = count($files);
        };

        $guard(function () use (&$fifo, &$losses, &$seen, $base, $report, $included) {
            // Opened now: the application may confine itself (open_basedir, chroot) later. For reading too: a FIFO without a
            // reader would answer with SIGPIPE when the agent dies just now.
            $fifo = fopen($base . '/reports', 'r+ne');
            $losses = fopen($base . '/losses', 'ae');
            foreach (array($fifo, $losses) as $stream) {
                if ($stream !== false) {
                    stream_set_write_buffer($stream, 0);
                }
            }
            $included();
            // A script from the standard input is no file that the agent could look into.
            if ($seen === 1) {
                $report('HM', '', 'php://stdin');
            }
            // Files that were compiled before the first request are in no list of included ones.
            if (ini_get('opcache.preload')) {
                $status = function_exists('opcache_get_status') ? opcache_get_status(false) : false;
                if ($status === false) {
                    $report('HF', 'blind: preloads files, and opcache.restrict_api keeps the include hook from their list', '');
                } elseif (isset($status['preload_statistics']['scripts'])) {
                    foreach ($status['preload_statistics']['scripts'] as $file) {
                        $report('HM', '', $file);
                    }
                }
            }
        });

        // What runs the application's code after the last word, where nothing of it can be told.
        $blind = function () use (&$silenced, $ends, $report) {
            $tell = function ($what) use (&$silenced, $report) {
                if (!isset($silenced[$what])) {
                    $silenced[$what] = true;
                    $report('HF', 'blind: ends with ' . $what . ', which can include more after the last word of the include '
                        . 'hook', '');
                }
            };
            if (!$ends) {
                $tell('destructors, of which this PHP tells nothing');
            }
            $buffers = function_exists('ob_get_status') ? ob_get_status(true) : array(array('type' => 1));
            foreach ($buffers as $buffer) {
                if ($buffer['type'] === 1) {
                    $tell('an output buffer that has a callback (ob_start)');
                }
            }
            if (function_exists('session_write_close')) {
                $known = function_exists('session_status') && function_exists('session_module_name');
                if (!$known || session_status() === 2 && session_module_name() === 'user') {
                    $tell('an open session that has a save handler (session_set_save_handler)');
                }
            }
            // Closed behind everything else, by code of the application.
            foreach (function_exists('get_resources') ? get_resources('stream') : array() as $stream) {
                $about = function_exists('stream_get_meta_data') ? stream_get_meta_data($stream) : array();
                if (isset($about['wrapper_type']) && $about['wrapper_type'] === 'user-space') {
                    $tell('an open stream of a class of its own (stream_wrapper_register)');
                }
            }
        };
        $last = function () use ($guard, $included, $blind, $report) {
            $guard(function () use ($included, $blind, $report) {
                $included();
                $blind();
                $report('HE', '', '');
            });
        };
        // Objects are destroyed after the shutdown functions, in the order in which they were made: a generator's `finally`
        // runs then, and makes another one, which comes behind all that was made meanwhile. As a text, since PHP before 5.5
        // does not understand it.
        if ($ends) {
            $destroyed = eval('return function () use (&$destroyed, &$kept, $guard, $included, $last) {
                try {
                    yield;
                } finally {
                    if (--$kept["turns"] > 0) {
                        $guard($included);
                        $kept["generator"] = $destroyed();
                        $kept["generator"]->current();
                    } else {
                        $last();
                    }
                }
            };');
        }
        // Registered before all of the application's, and again behind them, for what these include and register.
        $end = function () use (&$end, &$rounds, &$kept, $destroyed, $guard, $included, $last) {
            if ($destroyed !== null && $kept['generator'] === null) {
                $kept['generator'] = $destroyed();
                $kept['generator']->current();
            }
            if (--$rounds > 0) {
                $guard($included);
                register_shutdown_function($end);
            } else {
                $last();
            }
        };
        register_shutdown_function($end);
        // Objects take the places of those that are gone, the last one first, and are destroyed in the order of their places
        // in the end: the hook leaves no two free ones, so that the application's own go in theirs.
        while (count($kept['objects']) < $places) {
            $kept['objects'][] = function () {
            };
        }
        // Long-running scripts tell about once a second, when they look for a class.
        // A fork tells at once that it is there: if it ends by force later on, that is known to have hidden something.
        spl_autoload_register(function () use (&$next, &$pid, $guard, $included) {
            $now = microtime(true);
            if ($now >= $next || $pid !== getmypid()) {
                $next = $now + 1.0;
                $guard($included);
            }
        }, true, true);
    } catch (Exception $error) {
    } catch (Throwable $error) {
    }
};
${"\0plimsoll"}();
unset(${"\0plimsoll"});
// The application's own file, which this one stands in front of: PHP read the setting before it read ours (plimsoll.ini).
// off, no, none, null and false are empty by now.
${"\0plimsoll"} = function () {
    try {
        return @get_cfg_var('plimsoll.own');
    } catch (Exception $error) {
    } catch (Throwable $error) {
    }
};
if ((string) (${"\0plimsoll"} = ${"\0plimsoll"}()) !== '') {
    require ${"\0plimsoll"};
}
unset(${"\0plimsoll"});
