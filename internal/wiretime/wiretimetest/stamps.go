// Package wiretimetest tells tests what the system does for package wiretime, without that package's help.
package wiretimetest
