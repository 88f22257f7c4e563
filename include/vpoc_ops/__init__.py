"""Runs Airflow for this project on one machine: the in-process demo and the four parts."""
