<?php
// Reports each file that PHP includes to Plimsoll's FIFO. Run by auto_prepend_file before every script or request; then it
// runs the application's own auto_prepend_file.
//
// It must never raise, print, wait, leave a variable, function or class behind, or keep the application's own prepended
// file out. For PHP 5.4 and newer.
//
// A report is one write of at most PIPE_BUF bytes, which a FIFO takes whole or not at all:
//     0x1E kind ' ' pid ' ' lost ' ' flags ' ' name-bytes ' ' path-bytes '\n' name path
// kind: HH = the hook is at work (name: version and kind of server), HM = a file was included, HE = all was told that this
// process or request included, HF = the hook failed, or cannot see something.
${"\0plimsoll"} = function () {
    try {
        // Any of them may be missing (disable_functions): then the hook does nothing, and the agent counts a loss.
        foreach (array(
            'defined', 'dirname', 'fopen', 'fwrite', 'get_included_files', 'getmypid', 'ini_get', 'microtime',
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
        $lost = $pid = 0;
        $reported = array($own => true);
        $next = 0.0;

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
            $report('HH', PHP_VERSION . ' ' . PHP_SAPI, defined('PHP_BINARY') ? PHP_BINARY : '');
        };

        $included = function () use (&$reported, &$pid, $report, $hello) {
            // A fork tells of its own end.
            if ($pid !== getmypid()) {
                $hello();
            }
            foreach (get_included_files() as $file) {
                if (!isset($reported[$file])) {
                    $report('HM', '', strncmp($file, 'phar://', 7) ? $file : substr($file, 7));
                    $reported[$file] = true;
                }
            }
        };

        $guard(function () use (&$fifo, &$losses, $base, $report, $included) {
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

        // Registered before all of the application's; told again at the very end, for what the others include.
        $end = function () use ($guard, $included, $report) {
            $guard($included);
            register_shutdown_function(function () use ($guard, $included, $report) {
                $guard(function () use ($included, $report) {
                    $included();
                    $report('HE', '', '');
                });
            });
        };
        register_shutdown_function($end);
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
